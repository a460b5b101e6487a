//! placeholder
/// e
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
/// s
#[derive(Debug)]
pub struct Source;
impl Source {
    /// n
    pub fn names() -> &'static [&'static str] {
        &["stories"]
    }
    /// e
    pub fn embedded(_: &str) -> Result<Self, Error> {
        Ok(Self)
    }
    /// s
    pub fn sample(&self, _: u64, n: usize) -> String {
        "ab c\n".repeat(n / 5)
    }
    /// n
    pub fn nats(&self, _: &str, _: &str) -> Result<f64, Error> {
        Ok(1.0)
    }
}
