//! Posts XML-RPC calls over connections that are kept.

use std::time::Duration;

use bytes::Bytes;
use dxr::Value;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mutual_tls::{Application, MutualTls};
use tokio::time::timeout;

use super::answer::Answer;
use super::method::MethodFault;
use super::replies::{ANSWER_BYTES, ANSWER_PIECES, BUSY, CLOSING, GIVEN_UP, NO_REPLY, POLL};
use super::site::{HEAD_TIME, beside};
use super::xml::{read_response, write_call};
use crate::dial::Dialer;
use crate::{TransportError, with_causes};

/// How long an answer may take beyond the time that a call waits for something to give.
const SPARE: Duration = Duration::from_secs(30);
/// Connections to one peer that are kept while they are not used.
const MAX_IDLE: usize = 256;
/// Unused connections are closed after this time, which is shorter than the server's, so that no call goes to a closing one.
const IDLE_TIME: Duration = HEAD_TIME.saturating_sub(Duration::from_secs(10));
/// A peer that does not acknowledge bytes for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// A client of XML-RPC for all peers.
#[derive(Debug, Clone)]
pub(crate) struct Poster {
    client: Client<Dialer, Full<Bytes>>,
    max_answer_bytes: usize,
}

impl Poster {
    /// Makes a client for pieces of so many bytes.
    pub(crate) fn new(max_bytes: usize, tls: Option<MutualTls>) -> Poster {
        let dialer = Dialer::new(tls, Application::XmlRpc, |tcp| {
            tcp.set_keepalive(Some(PROBE_EVERY));
            tcp.set_keepalive_interval(Some(PROBE_EVERY));
            tcp.set_keepalive_retries(Some(4));
            tcp.set_tcp_user_timeout(Some(SILENCE));
        });
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(dialer);
        let max_answer_bytes = (max_bytes + ANSWER_BYTES) / 3 * 4 + ANSWER_PIECES * 64 + (64 << 10);
        Poster { client, max_answer_bytes }
    }

    /// Calls `call` or `more`, which give an answer.
    pub(crate) async fn fetch(
        &self,
        peer: &str,
        method: &'static str,
        parameters: Vec<Value>,
        bytes: usize,
    ) -> Result<Answer, TransportError> {
        let body = self.exchange(peer, method, parameters, bytes).await?;
        let length = body.len();
        let read = move || match Answer::from_xml(&body) {
            Some(answer) => Ok(Ok(Some(answer))),
            None => read_response(&body).map(|response| response.map(Answer::from_value)),
        };
        let whole = |answer: &Answer| answer.last == answer.id.is_empty();
        match beside(length, read).await.map_err(|cause| protocol(peer, cause))? {
            Ok(answer) => answer
                .filter(whole)
                .ok_or_else(|| protocol(peer, format!("{method} gives something else than an answer"))),
            Err(fault) => Err(asks_again(peer, &fault)),
        }
    }

    /// Calls a method.
    pub(crate) async fn post(
        &self,
        peer: &str,
        method: &'static str,
        parameters: Vec<Value>,
    ) -> Result<Result<Value, MethodFault>, TransportError> {
        let body = self.exchange(peer, method, parameters, 0).await?;
        let response = beside(body.len(), move || read_response(&body)).await;
        response.map_err(|cause| protocol(peer, cause))
    }

    /// Posts a call with about so many bytes of parameters, and gives the body of the response.
    async fn exchange(
        &self,
        peer: &str,
        method: &'static str,
        parameters: Vec<Value>,
        bytes: usize,
    ) -> Result<Bytes, TransportError> {
        let unreachable = |cause: String| TransportError::Unreachable { peer: peer.to_owned(), cause };
        let xml = beside(bytes, move || write_call(method, parameters)).await;
        let mut request = Request::post(format!("http://{peer}/RPC2"))
            .body(Full::new(Bytes::from(xml.map_err(TransportError::Invalid)?)))
            .map_err(|error| TransportError::Invalid(format!("{peer} is no address: {error}")))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        let broken =
            |error: &(dyn std::error::Error + 'static)| unreachable(with_causes(&error.to_string(), error));
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), self.max_answer_bytes).collect().await;
            Ok((status, body.map_err(|error| broken(error.as_ref()))?.to_bytes()))
        };
        let silent = |_| unreachable("it does not answer".to_owned());
        let (status, body) = timeout(POLL + SPARE, exchange).await.map_err(silent)??;
        if status == StatusCode::OK { Ok(body) } else { Err(protocol(peer, format!("it answers {status}"))) }
    }
}

fn protocol(peer: &str, cause: String) -> TransportError {
    TransportError::Protocol { peer: peer.to_owned(), cause }
}

/// What a fault of `call` or `more` means for the asker.
fn asks_again(peer: &str, fault: &MethodFault) -> TransportError {
    let cause = fault.to_string();
    match fault.code {
        CLOSING | GIVEN_UP | NO_REPLY | BUSY => TransportError::Unreachable { peer: peer.to_owned(), cause },
        _ => protocol(peer, cause),
    }
}
