//! Why a bucket does not give what is asked.

use object_store::Error;

/// Why a bucket does not give what is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// The URL is none.
    #[error("{0}")]
    Url(String),
    /// There is no object.
    #[error("there is no such object, or no such bucket")]
    Missing,
    /// The object is another one than when it was looked at.
    #[error("the object has been written since the job was planned. Run the job again")]
    Changed,
    /// The credentials are wrong, or there are none.
    #[error("{0}")]
    Credentials(String),
    /// It cannot be reached, or it fails.
    #[error("{0}")]
    Failed(String),
    /// The file that is to be put there cannot be read, or changes meanwhile.
    #[error("{0}")]
    File(String),
}

/// What the environment says about credentials and the server. Error messages name it.
#[derive(Debug, Clone)]
pub struct S3Facts {
    has_credentials: bool,
    endpoint: Option<String>,
}

impl S3Facts {
    /// Looks at the environment.
    #[must_use]
    pub fn read() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let others = [
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_SKIP_SIGNATURE",
        ];
        let has_key = set("AWS_ACCESS_KEY_ID").is_some() && set("AWS_SECRET_ACCESS_KEY").is_some();
        Self {
            has_credentials: has_key || others.iter().any(|name| set(name).is_some()),
            endpoint: set("AWS_ENDPOINT").or_else(|| set("AWS_ENDPOINT_URL")),
        }
    }

    /// What a failure means for people.
    #[must_use]
    pub fn explain(&self, error: &Error) -> BucketError {
        let text = error.to_string();
        match (code(&text), error) {
            (Some("NoSuchBucket" | "NoSuchKey"), _) | (_, Error::NotFound { .. }) => BucketError::Missing,
            (_, Error::Precondition { .. } | Error::NotModified { .. }) => BucketError::Changed,
            (word, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => refused(word),
            (Some(word), _) if REFUSALS.contains(&word) => refused(Some(word)),
            _ if !self.has_credentials => BucketError::Credentials(
                "there are no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of every program that reads the bucket"
                    .to_owned(),
            ),
            _ => {
                let place = self.endpoint.as_deref().unwrap_or("Amazon's address of the bucket");
                BucketError::Failed(format!(
                    "the bucket does not answer at {place}, which AWS_ENDPOINT tells: {}",
                    cause(error)
                ))
            }
        }
    }
}

/// Amazon's words for wrong credentials, where the client does not tell them from other failures.
const REFUSALS: [&str; 5] =
    ["AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"];

fn refused(word: Option<&str>) -> BucketError {
    let word = word.map_or_else(String::new, |word| format!(" ({word})"));
    BucketError::Credentials(format!(
        "the bucket refuses the credentials{word}: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and what the key may do"
    ))
}

/// Amazon's word for an error, from the XML of its answer.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code).filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The innermost reason, such as a refused connection.
fn cause(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(has_credentials: bool) -> S3Facts {
        S3Facts { has_credentials, endpoint: Some("http://store:9000".to_owned()) }
    }

    fn generic(cause: &str) -> Error {
        Error::Generic { store: "S3", source: cause.to_owned().into() }
    }

    #[test]
    fn each_failure_tells_what_to_do() {
        let refused = Error::PermissionDenied {
            path: "a".to_owned(),
            source: "403: <Error><Code>SignatureDoesNotMatch</Code></Error>".into(),
        };
        let told = facts(true).explain(&refused).to_string();
        assert!(told.contains("(SignatureDoesNotMatch)") && told.contains("AWS_SECRET_ACCESS_KEY"), "{told}");
        let told = facts(true).explain(&generic("connection refused")).to_string();
        assert!(told.contains("http://store:9000") && told.ends_with("connection refused"), "{told}");
        let told = facts(false).explain(&generic("no role")).to_string();
        assert!(told.starts_with("there are no credentials"), "{told}");
        let listed = generic("403: <Error><Code>InvalidAccessKeyId</Code></Error>");
        assert!(matches!(facts(true).explain(&listed), BucketError::Credentials(_)));
        let no_bucket = generic("404: <Error><Code>NoSuchBucket</Code></Error>");
        assert_eq!(facts(true).explain(&no_bucket), BucketError::Missing);
        let missing = Error::NotFound { path: "a".to_owned(), source: "404".into() };
        assert_eq!(facts(false).explain(&missing), BucketError::Missing);
    }
}
