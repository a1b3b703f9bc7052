//! When two addresses, as operators write them, are one.

/// Whether `a` and `b` (each `HOST:PORT`) are the same text, or the same port of `localhost`, once by name and once by
/// number: what `--listen 127.0.0.1:5001` says of itself and `--peer 1=localhost:5001` says of it. No other name is
/// looked up: that could take seconds, and be answered otherwise the next time.
pub fn is_same_address(a: &str, b: &str) -> bool {
    let (Some((host, port)), Some((other, other_port))) = (a.rsplit_once(':'), b.rsplit_once(':')) else {
        return a == b;
    };
    let named = |host: &str| host.eq_ignore_ascii_case("localhost");
    let numbered = |host: &str| ["127.0.0.1", "[::1]"].contains(&host);
    let hosts = host == other || (named(host) && (named(other) || numbered(other))) || (numbered(host) && named(other));
    port == other_port && hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_the_same_by_name_and_by_number() {
        for (a, b) in [("localhost:1", "127.0.0.1:1"), ("LocalHost:1", "[::1]:1"), ("a:1", "a:1"), ("odd", "odd")] {
            assert!(is_same_address(a, b) && is_same_address(b, a), "{a} {b}");
        }
        let different = [
            ("localhost:1", "127.0.0.1:2"),
            ("localhost:1", "127.0.0.2:1"),
            ("127.0.0.1:1", "[::1]:1"),
            ("a:1", "b:1"),
            ("odd", "localhost:1"),
        ];
        for (a, b) in different {
            assert!(!is_same_address(a, b) && !is_same_address(b, a), "{a} {b}");
        }
    }
}
