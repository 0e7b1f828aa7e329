//! An object store behind the protocol of S3, as far as it is used: put, put if absent, uploads in parts, get, ranges, delete and list.
//! The objects are in memory. A server of others (`s3s`) would change the features of DataFusion's libraries, and have them compiled
//! once more.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

mod signature;

/// When all objects were changed last. Their ETags tell their states apart.
const HTTP_DATE: &str = "Mon, 02 Jan 2023 03:04:05 GMT";
const XML_DATE: &str = "2023-01-02T03:04:05.000Z";
/// Objects in one page of a list. Short, so that there are several.
const PAGE: usize = 50;

/// A server with one bucket, on a free port of loopback. It ends when this is dropped.
pub struct S3Server {
    address: String,
    store: Arc<ObjectMemory>,
    _stop: oneshot::Sender<()>,
}

impl S3Server {
    /// The name of the bucket.
    pub const BUCKET: &str = "cluster";
    /// The key that may use it.
    pub const KEY: &str = "test-key";
    /// The secret of the key.
    pub const SECRET: &str = "test-secret";

    /// Starts a server whose bucket is empty.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (store, (stop, stopped)) = (Arc::<ObjectMemory>::default(), oneshot::channel());
        let served = Arc::clone(&store);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(TcpListener::from_std(listener).unwrap(), served) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, store, _stop: stop }
    }

    /// What a program needs in its environment to use the bucket.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", Self::KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET.to_owned()),
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// Puts an object, in place of one that is there.
    ///
    /// # Panics
    /// If another test has panicked while it used the bucket.
    pub fn put(&self, key: &str, body: impl Into<Bytes>) {
        self.store.put(key, body.into(), false);
    }

    /// The keys of all objects, in their order.
    ///
    /// # Panics
    /// As [`put`](Self::put) does.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.store.objects.lock().unwrap().keys().cloned().collect()
    }

    /// How many objects were put so far.
    #[must_use]
    pub fn puts(&self) -> usize {
        self.store.puts.load(Ordering::SeqCst)
    }

    /// How many of them on the condition that there was none.
    #[must_use]
    pub fn puts_if_absent(&self) -> usize {
        self.store.puts_if_absent.load(Ordering::SeqCst)
    }

    /// How many requests asked for a range of an object.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.store.ranges.load(Ordering::SeqCst)
    }

    /// Fails every request while the server is away.
    pub fn set_away(&self, is_away: bool) {
        self.store.is_away.store(is_away, Ordering::SeqCst);
    }

    /// How many requests have failed because the server was away.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.store.failed.load(Ordering::SeqCst)
    }

    /// How many requests were refused because of their key or their signature.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.store.refused.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, store: Arc<ObjectMemory>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let store = Arc::clone(&store);
        let service = service_fn(move |request| {
            let store = Arc::clone(&store);
            async move { Ok::<_, Infallible>(store.answer(request).await) }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        // A client may go at any time.
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// The objects of the bucket, and what was asked for.
#[derive(Default)]
struct ObjectMemory {
    objects: Mutex<BTreeMap<String, StoredObject>>,
    /// The parts of the uploads that have begun.
    uploads: Mutex<BTreeMap<String, BTreeMap<usize, Bytes>>>,
    puts: AtomicUsize,
    puts_if_absent: AtomicUsize,
    ranges: AtomicUsize,
    is_away: AtomicBool,
    failed: AtomicUsize,
    refused: AtomicUsize,
}

#[derive(Clone)]
struct StoredObject {
    body: Bytes,
    tag: String,
}

type S3Reply = Response<Full<Bytes>>;

fn reply(status: StatusCode, body: impl Into<Bytes>) -> S3Reply {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

fn error(status: StatusCode, code: &str) -> S3Reply {
    reply(
        status,
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>"),
    )
}

fn document(name: &str, content: &str) -> S3Reply {
    reply(StatusCode::OK, format!("<?xml version=\"1.0\"?><{name}>{content}</{name}>"))
}

fn tagged(mut reply: S3Reply, tag: &str) -> S3Reply {
    reply.headers_mut().insert("etag", tag.parse().unwrap());
    reply.headers_mut().insert("last-modified", HTTP_DATE.parse().unwrap());
    reply
}

fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The value of a key in a query; empty for a key without a value.
fn asked(query: &[(String, String)], name: &str) -> Option<String> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

impl ObjectMemory {
    async fn answer(&self, request: Request<Incoming>) -> S3Reply {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        if self.is_away.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        if let Err(code) = signature::check(&head, &body, S3Server::KEY, S3Server::SECRET) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return error(StatusCode::FORBIDDEN, code);
        }
        let path = signature::decoded(head.uri.path());
        let inside = path.strip_prefix('/').and_then(|path| path.strip_prefix(S3Server::BUCKET));
        let Some(key) = inside.filter(|key| key.is_empty() || key.starts_with('/')) else {
            return error(StatusCode::NOT_FOUND, "NoSuchBucket");
        };
        let (key, query) = (key.trim_start_matches('/'), signature::query_pairs(&head));
        let upload = asked(&query, "uploadId");
        match (&head.method, upload) {
            (&Method::PUT, Some(upload)) => self.put_part(&upload, &query, body),
            (&Method::POST, Some(upload)) => self.end_upload(key, &upload, &body),
            (&Method::DELETE, Some(upload)) => {
                self.uploads.lock().unwrap().remove(&upload);
                reply(StatusCode::NO_CONTENT, "")
            }
            (&Method::PUT, None) => self.put(key, body, header(&head, "if-none-match") == "*"),
            (&Method::POST, None) if asked(&query, "delete").is_some() => self.delete(&body),
            (&Method::POST, None) if asked(&query, "uploads").is_some() => self.begin_upload(),
            (&Method::GET, None) if key.is_empty() => self.list(&query),
            (&Method::GET | &Method::HEAD, None) => self.get(key, &head),
            _ => error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        }
    }

    fn put(&self, key: &str, body: Bytes, if_absent: bool) -> S3Reply {
        let mut objects = self.objects.lock().unwrap();
        self.puts_if_absent.fetch_add(usize::from(if_absent), Ordering::SeqCst);
        if if_absent && objects.contains_key(key) {
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let tag = format!("\"{}\"", self.puts.fetch_add(1, Ordering::SeqCst));
        objects.insert(key.to_owned(), StoredObject { body, tag: tag.clone() });
        tagged(reply(StatusCode::OK, ""), &tag)
    }

    fn get(&self, key: &str, head: &Parts) -> S3Reply {
        let found = self.objects.lock().unwrap().get(key).cloned();
        let Some(StoredObject { body, tag }) = found else {
            return error(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let wanted = header(head, "if-match");
        if !wanted.is_empty() && wanted != tag {
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let Some(range) = header(head, "range").strip_prefix("bytes=") else {
            let mut whole = tagged(reply(StatusCode::OK, body.clone()), &tag);
            whole.headers_mut().insert("content-length", body.len().into());
            return whole;
        };
        self.ranges.fetch_add(1, Ordering::SeqCst);
        let (start, last) = range.split_once('-').unwrap();
        let (start, last) = (start.parse().unwrap(), last.parse().unwrap_or(usize::MAX));
        let end = last.saturating_add(1).min(body.len());
        if start >= end {
            return error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
        }
        let told = format!("bytes {start}-{}/{}", end - 1, body.len());
        let mut part = tagged(reply(StatusCode::PARTIAL_CONTENT, body.slice(start..end)), &tag);
        part.headers_mut().insert("content-range", told.parse().unwrap());
        part
    }

    fn begin_upload(&self) -> S3Reply {
        let mut uploads = self.uploads.lock().unwrap();
        let upload = format!("upload-{}-{}", uploads.len(), self.puts.load(Ordering::SeqCst));
        uploads.insert(upload.clone(), BTreeMap::new());
        document("InitiateMultipartUploadResult", &format!("<UploadId>{upload}</UploadId>"))
    }

    fn put_part(&self, upload: &str, query: &[(String, String)], body: Bytes) -> S3Reply {
        let mut uploads = self.uploads.lock().unwrap();
        let number = asked(query, "partNumber").and_then(|number| number.parse::<usize>().ok());
        let (Some(parts), Some(number)) = (uploads.get_mut(upload), number) else {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        parts.insert(number, body);
        tagged(reply(StatusCode::OK, ""), &format!("\"part-{number}\""))
    }

    fn end_upload(&self, key: &str, upload: &str, body: &[u8]) -> S3Reply {
        let Some(parts) = self.uploads.lock().unwrap().remove(upload) else {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let told = std::str::from_utf8(body).unwrap().matches("<PartNumber>").count();
        assert_eq!(told, parts.len(), "an upload ends with all of its parts");
        let whole: Vec<u8> = parts.values().flat_map(|part| part.iter().copied()).collect();
        let tag = format!("\"{}\"", self.puts.fetch_add(1, Ordering::SeqCst));
        self.objects
            .lock()
            .unwrap()
            .insert(key.to_owned(), StoredObject { body: whole.into(), tag: tag.clone() });
        document("CompleteMultipartUploadResult", &format!("<ETag>{tag}</ETag>"))
    }

    fn delete(&self, body: &[u8]) -> S3Reply {
        let mut objects = self.objects.lock().unwrap();
        let body = std::str::from_utf8(body).unwrap();
        let mut told = String::new();
        for part in body.split("<Key>").skip(1) {
            let key = part.split("</Key>").next().unwrap();
            objects.remove(key);
            told.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
        }
        document("DeleteResult", &told)
    }

    fn list(&self, query: &[(String, String)]) -> S3Reply {
        let prefix = asked(query, "prefix").unwrap_or_default();
        let has_delimiter = asked(query, "delimiter").is_some();
        let after = asked(query, "continuation-token").unwrap_or_default();
        let objects = self.objects.lock().unwrap();
        let (mut told, mut count, mut last, mut last_folder) = (String::new(), 0, "", String::new());
        let mut is_truncated = false;
        for (key, object) in objects.range(after.clone()..).filter(|(key, _)| **key > after) {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            is_truncated = count == PAGE;
            if is_truncated {
                break;
            }
            last = key;
            if let Some(end) = rest.find('/').filter(|_| has_delimiter) {
                let folder = format!("{prefix}{}", &rest[..=end]);
                if folder != last_folder {
                    told.push_str(&format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"));
                    count += 1;
                }
                last_folder = folder;
                continue;
            }
            count += 1;
            let (size, tag) = (object.body.len(), &object.tag);
            told.push_str(&format!(
                "<Contents><Key>{key}</Key><LastModified>{XML_DATE}</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>"
            ));
        }
        let next = if is_truncated {
            format!("<NextContinuationToken>{last}</NextContinuationToken>")
        } else {
            String::new()
        };
        document("ListBucketResult", &format!("<IsTruncated>{is_truncated}</IsTruncated>{next}{told}"))
    }
}
