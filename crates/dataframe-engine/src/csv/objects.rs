//! The objects behind the URLs of a `read_csv`, and their bucket as a store of DataFusion.

use buckets::{BucketError, DataBucket, ObjectUrl};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path;
use glob::{MatchOptions, Pattern};

use crate::error::FrameError;

/// As in a pattern of file names: `*` stays within a folder.
const WITHIN_FOLDERS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The objects behind a URL, by name, and the URL of each: an object, a folder of which `is_wanted` tells what is read, or a pattern.
pub(super) fn list(
    url: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, ObjectMeta)>, FrameError> {
    let place = ObjectUrl::parse(url).map_err(|error| FrameError::BadJob(format!("{url}: {error}")))?;
    let failed = |error: BucketError| unreadable(url, &error);
    let bucket = DataBucket::open(&place.bucket).map_err(failed)?;
    let named = |meta: ObjectMeta| {
        let url = ObjectUrl { bucket: place.bucket.clone(), key: meta.location.clone() };
        (url.to_string(), meta)
    };
    if !place.key.as_ref().is_empty() {
        match bucket.look_at(&place.key) {
            Ok(meta) => return Ok(vec![named(meta)]),
            Err(BucketError::Missing) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let objects = if let Some((folder, has_folders)) = pattern_folder(place.key.as_ref()) {
        let pattern = Pattern::new(place.key.as_ref())
            .map_err(|error| FrameError::BadJob(format!("{url}: this is no pattern of names: {error}")))?;
        let mut found = bucket.list(&folder, has_folders).map_err(failed)?;
        found.retain(|object| pattern.matches_with(object.location.as_ref(), WITHIN_FOLDERS));
        found
    } else {
        let mut found = bucket.list(&place.key, false).map_err(failed)?;
        if found.is_empty() {
            return Err(failed(BucketError::Missing));
        }
        found.retain(|object| is_wanted(object.location.as_ref()));
        found
    };
    Ok(objects.into_iter().map(named).collect())
}

/// Looks at the object of a URL.
pub(super) fn look_at(url: &str) -> Result<ObjectMeta, FrameError> {
    let object = ObjectUrl::parse(url).and_then(|place| DataBucket::open(&place.bucket)?.look_at(&place.key));
    object.map_err(|error| unreadable(url, &error))
}

fn unreadable(url: &str, error: &BucketError) -> FrameError {
    FrameError::File(format!("{url}: the file cannot be read: {error}"))
}

/// The folder in which everything is that a pattern matches, and whether it matches names in folders of that folder. Nothing if the
/// name is no pattern.
fn pattern_folder(name: &str) -> Option<(Path, bool)> {
    let wildcard = name.find(['*', '?', '['])?;
    let folder = name[..wildcard].rfind('/').map_or("", |slash| &name[..slash]);
    Some((Path::parse(folder).ok()?, name[wildcard..].contains('/') || name.contains("**")))
}

/// The bucket in which all files of a scan are; none if they are on disks.
pub(super) fn common_bucket<'a>(paths: impl Iterator<Item = &'a str>) -> Result<Option<String>, FrameError> {
    let mut common: Option<Option<String>> = None;
    for path in paths {
        let bucket = match ObjectUrl::is_one(path) {
            true => ObjectUrl::parse(path).ok().map(|url| url.bucket),
            false => None,
        };
        match &common {
            Some(known) if *known != bucket => {
                return Err(FrameError::BadJob(format!(
                    "{path}: files of one bucket cannot be read together with files elsewhere: read them apart, and join them with merge"
                )));
            }
            _ => common = Some(bucket),
        }
    }
    Ok(common.flatten())
}

/// Makes a bucket known to DataFusion. Returns the URL by which it is known; that of disks if there is no bucket.
pub(super) fn register(bucket: Option<&str>, runtime: &RuntimeEnv) -> Result<ObjectStoreUrl> {
    let Some(bucket) = bucket else { return Ok(ObjectStoreUrl::local_filesystem()) };
    let url = ObjectStoreUrl::parse(format!("s3://{bucket}"))?;
    let opened = DataBucket::open(bucket);
    let opened =
        opened.map_err(|error| DataFusionError::from(FrameError::File(format!("s3://{bucket}: {error}"))))?;
    runtime.register_object_store(url.as_ref(), opened.store());
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_a_folder() {
        let folder = |name: &str| pattern_folder(name).map(|(folder, deep)| (folder.to_string(), deep));
        assert_eq!(folder("a/b.csv"), None);
        assert_eq!(folder("*.csv"), Some((String::new(), false)));
        assert_eq!(folder("a/b/c?.csv"), Some(("a/b".to_owned(), false)));
        assert_eq!(folder("a/*/c.csv"), Some(("a".to_owned(), true)));
        assert_eq!(folder("a/**"), Some(("a".to_owned(), true)));
    }

    #[test]
    fn one_scan_reads_one_bucket() {
        let common = |paths: &[&str]| common_bucket(paths.iter().copied());
        assert_eq!(common(&["/a", "/b"]), Ok(None));
        assert_eq!(common(&["s3://a/1", "s3://a/2"]), Ok(Some("a".to_owned())));
        for paths in [["s3://a/1", "s3://b/1"], ["s3://a/1", "/b"], ["/b", "s3://a/1"]] {
            assert!(matches!(common(&paths), Err(FrameError::BadJob(_))), "{paths:?}");
        }
    }
}
