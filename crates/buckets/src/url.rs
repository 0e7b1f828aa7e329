//! Names of objects.

use std::fmt;

use object_store::path::Path;

use crate::error::BucketError;

const SCHEME: &str = "s3://";

/// `s3://BUCKET/KEY`, or `s3://BUCKET` with an empty key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectUrl {
    /// The name of the bucket.
    pub bucket: String,
    /// The key as it is written, without a slash at its end.
    pub key: Path,
}

impl ObjectUrl {
    /// Whether a path is meant as the URL of an object.
    #[must_use]
    pub fn is_one(path: &str) -> bool {
        path.starts_with(SCHEME)
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// Fails if the bucket has no name, or if the key has parts that no client of S3 can write, such as two slashes in a row.
    pub fn parse(url: &str) -> Result<Self, BucketError> {
        let wrong = |cause: String| BucketError::Url(format!("{cause}: write s3://BUCKET/KEY"));
        let place =
            url.strip_prefix(SCHEME).ok_or_else(|| wrong("this is no URL of an object".to_owned()))?;
        let (bucket, key) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() || bucket.contains(|c: char| !(c.is_ascii_alphanumeric() || ".-_".contains(c))) {
            return Err(wrong("the name of the bucket is missing, or has other characters than letters, digits, '.', '-' and '_'".to_owned()));
        }
        if key.starts_with('/') {
            return Err(wrong("a key does not begin with a slash".to_owned()));
        }
        let key = Path::parse(key).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { bucket: bucket.to_owned(), key })
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_they_are_written() {
        for url in ["s3://data/a.csv", "s3://data/año/b c%20.csv", "s3://d.a-t_a/*/?.csv"] {
            assert_eq!(ObjectUrl::parse(url).unwrap().to_string(), url);
        }
        let bucket = ObjectUrl::parse("s3://data").unwrap();
        assert_eq!(bucket, ObjectUrl::parse("s3://data/").unwrap());
        assert_eq!(ObjectUrl::parse("s3://data/a/").unwrap().to_string(), "s3://data/a");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "data/a.csv",
            "s3://",
            "s3:///a.csv",
            "s3://key:secret@data/a.csv",
            "s3://data/../a.csv",
            "s3://data//a.csv",
        ] {
            let error = ObjectUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains("s3://BUCKET/KEY") && !error.contains("secret"), "{url}: {error}");
        }
    }
}
