//! The part of etcd's gRPC that the load needs: `Range` and `Put` of `etcdserverpb.KV`, and `Status` of
//! `etcdserverpb.Maintenance`.
//!
//! The messages are written by hand, with the numbers of etcd's rpc.proto and only the fields used here, so that
//! building this takes no protoc; what is not declared is skipped by protobuf's rules.

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    /// Reads what this member has applied, without asking a majority: not linearizable.
    #[prost(bool, tag = "7")]
    serializable: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// One HTTP/2 connection to one member.
#[derive(Clone)]
pub struct Etcd(Grpc<Channel>);

impl Etcd {
    /// `endpoint` is `HOST:PORT`.
    pub async fn connect(endpoint: &str) -> Result<Etcd, String> {
        let named = Endpoint::from_shared(format!("http://{endpoint}")).map_err(|error| error.to_string())?;
        let channel = named.tcp_nodelay(true).connect().await.map_err(|error| format!("{endpoint}: {error:?}"))?;
        Ok(Etcd(Grpc::new(channel)))
    }

    pub async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Status> {
        self.call::<_, PutResponse>("/etcdserverpb.KV/Put", PutRequest { key, value }).await.map(|_| ())
    }

    pub async fn get(&mut self, key: Vec<u8>, serializable: bool) -> Result<Option<Vec<u8>>, Status> {
        let response: RangeResponse = self.call("/etcdserverpb.KV/Range", RangeRequest { key, serializable }).await?;
        Ok(response.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// Whether this member leads.
    pub async fn leads(&mut self) -> Result<bool, Status> {
        let response: StatusResponse = self.call("/etcdserverpb.Maintenance/Status", StatusRequest {}).await?;
        Ok(response.header.is_some_and(|header| header.member_id == response.leader && response.leader != 0))
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        self.0
            .unary(Request::new(request), PathAndQuery::from_static(path), codec)
            .await
            .map(tonic::Response::into_inner)
    }
}
