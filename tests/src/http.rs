//! As much of an HTTP client as the tests need: one short request to a server on this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::Result;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A server's answer.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Sends `method path` without a body to `address` and reads the whole answer, waiting 5 seconds at most. HTTP 1.0, so
/// that the server neither splits the body into chunks nor keeps the connection.
///
/// # Errors
///
/// When the server cannot be reached, falls silent, or answers with something that is not HTTP.
pub fn request(method: &str, address: SocketAddr, path: &str) -> Result<Response> {
    let mut stream =
        TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("reading the answer of {address} to {method} {path}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("{address} did not answer with HTTP: {answer}")
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("{address} sent no status code: {head}"))?;
    Ok(Response { status, body: body.to_owned() })
}
