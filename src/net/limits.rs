#[derive(Clone, Debug, Default)]
pub struct NetLimits {}
