//! The files behind the paths of a `read_csv`.

use std::fs::Metadata;
use std::io::{self, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use buckets::ObjectUrl;
use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::Compression;
use datafusion::object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::file_bytes::FileState;
use super::objects;
use crate::error::FrameError;

/// What of a folder is read.
const SUFFIXES: [&str; 6] = [".csv", ".csv.gz", ".csv.zst", ".csv.gzip", ".csv.zstd", ".tsv"];

/// A file, and what it was like when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvFile {
    /// Absolute, on the machine that has the file, or the URL of an object.
    pub path: String,
    /// In bytes, as it is stored.
    pub size: u64,
    /// When the file was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Tells the states of an object apart. Absent for files on disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// Never [`Compression::Auto`].
    pub compression: Compression,
    /// The only worker that has the file; absent where all reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Which column of the frame each column of the file is, where the file has them in another order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<usize>,
    /// Beginnings of records, where they were looked for. See [`Inspection::find_boundaries`](super::Inspection::find_boundaries).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boundaries: Vec<u64>,
}

impl CsvFile {
    fn new(path: &Path, compression: Compression) -> Result<Self, FrameError> {
        let shown = path.display().to_string();
        let absolute = std::fs::canonicalize(path).map_err(|error| unreadable(&shown, &error))?;
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(&shown, &error))?;
        let Some(path) = absolute.to_str() else {
            return Err(FrameError::BadJob(format!(
                "{shown}: the name of the file is not UTF-8: rename the file"
            )));
        };
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
            modified_ns: modified_ns(&metadata).map_err(|error| unreadable(&shown, &error))?,
            e_tag: None,
            compression: by_name(path, compression),
            worker: None,
            order: Vec::new(),
            boundaries: Vec::new(),
        })
    }

    fn of_object(url: String, object: ObjectMeta, compression: Compression) -> Self {
        Self {
            size: object.size,
            modified_ns: object_modified_ns(&object),
            e_tag: object.e_tag,
            compression: by_name(&url, compression),
            path: url,
            worker: None,
            order: Vec::new(),
            boundaries: Vec::new(),
        }
    }

    /// The file as it was looked at.
    pub(super) fn state(&self) -> FileState {
        FileState { path: self.path.clone(), size: self.size, e_tag: self.e_tag.clone() }
    }

    /// Opens the file and decompresses it.
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>, FrameError> {
        self.state().decompressed(self.compression).map_err(|error| unreadable(&self.path, &error))
    }
}

/// The error of a file that cannot be read.
pub(super) fn unreadable(path: &str, error: &io::Error) -> FrameError {
    FrameError::File(format!("{path}: the file cannot be read: {error}"))
}

fn by_name(path: &str, compression: Compression) -> Compression {
    match compression {
        Compression::Auto if path.ends_with(".gz") || path.ends_with(".gzip") => Compression::Gzip,
        Compression::Auto if path.ends_with(".zst") || path.ends_with(".zstd") => Compression::Zstd,
        Compression::Auto => Compression::None,
        told => told,
    }
}

fn object_modified_ns(object: &ObjectMeta) -> i64 {
    object.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX)
}

fn modified_ns(metadata: &Metadata) -> io::Result<i64> {
    let modified = metadata.modified()?;
    let nanoseconds = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds)
        }
    };
    Ok(nanoseconds)
}

/// Lists the files behind files, folders, patterns and URLs of objects: in the order of `paths`, and by name within a folder or a
/// pattern.
///
/// # Errors
/// [`FrameError::File`] if there is no file, or if one cannot be looked at.
pub fn list_files(paths: &[String], compression: Compression) -> Result<Vec<CsvFile>, FrameError> {
    let mut files = Vec::new();
    for path in paths {
        if path.starts_with("worker://") {
            return Err(FrameError::BadJob(format!(
                "{path}: only a cluster reads files of its workers: use --master"
            )));
        }
        let before = files.len();
        if ObjectUrl::is_one(path) {
            let objects = objects::list(path, is_csv_name)?.into_iter();
            files.extend(objects.map(|(url, object)| CsvFile::of_object(url, object, compression)));
        } else if Path::new(path).is_dir() {
            list_folder(path, compression, &mut files)?;
        } else if Path::new(path).exists() || !path.contains(['*', '?', '[']) {
            files.push(CsvFile::new(Path::new(path), compression)?);
        } else {
            list_pattern(path, compression, &mut files)?;
        }
        if files.len() == before {
            return Err(FrameError::File(format!("{path}: there is no CSV file here")));
        }
    }
    if files.is_empty() {
        return Err(FrameError::BadJob("read_csv has no path".to_owned()));
    }
    Ok(files)
}

fn is_csv_name(name: &str) -> bool {
    let name = name.to_lowercase();
    SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

fn list_folder(path: &str, compression: Compression, files: &mut Vec<CsvFile>) -> Result<(), FrameError> {
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|error| unreadable(path, &error))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if is_csv_name(&entry.file_name().to_string_lossy()) && entry.path().is_file() {
            files.push(CsvFile::new(&entry.path(), compression)?);
        }
    }
    Ok(())
}

fn list_pattern(path: &str, compression: Compression, files: &mut Vec<CsvFile>) -> Result<(), FrameError> {
    let matches = glob::glob(path)
        .map_err(|error| FrameError::BadJob(format!("{path}: this is no pattern of file names: {error}")))?;
    for found in matches {
        let found = found.map_err(|error| unreadable(path, error.error()))?;
        if found.is_file() {
            files.push(CsvFile::new(&found, compression)?);
        }
    }
    Ok(())
}

/// Checks that files are as they were when the job was planned.
///
/// # Errors
/// [`FrameError::File`] names the file that is missing, or that has another size or another time of change.
pub fn check_unchanged(files: &[FileRange]) -> Result<(), FrameError> {
    for file in files {
        let path = &file.path;
        let (is, modified) = size_and_time(path)?;
        if is != file.size {
            let was = file.size;
            return Err(FrameError::File(format!(
                "{path}: the file has changed since the job was planned: it had {was} bytes and has {is}. Run the job again"
            )));
        }
        if modified != file.modified_ns {
            return Err(FrameError::File(format!(
                "{path}: the file has been written since the job was planned. Run the job again"
            )));
        }
    }
    Ok(())
}

fn size_and_time(path: &str) -> Result<(u64, i64), FrameError> {
    if ObjectUrl::is_one(path) {
        let object = objects::look_at(path)?;
        return Ok((object.size, object_modified_ns(&object)));
    }
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let modified = modified_ns(&metadata).map_err(|error| unreadable(path, &error))?;
    Ok((metadata.len(), modified))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[CsvFile]) -> Vec<&str> {
        files.iter().map(|file| file.path.rsplit('/').next().unwrap()).collect()
    }

    #[test]
    fn folders_and_patterns_give_files_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv.gz", "notes.txt", "c.csv.zst", "A.CSV"] {
            std::fs::write(folder.path().join(name), "x\n1\n").unwrap();
        }
        let path = folder.path().to_str().unwrap().to_owned();
        let files = list_files(std::slice::from_ref(&path), Compression::Auto).unwrap();
        assert_eq!(names(&files), ["A.CSV", "a.csv.gz", "b.csv", "c.csv.zst"]);
        let compressions: Vec<_> = files.iter().map(|file| file.compression).collect();
        assert_eq!(
            compressions,
            [Compression::None, Compression::Gzip, Compression::None, Compression::Zstd]
        );
        let files = list_files(&[format!("{path}/*.txt"), format!("{path}/b*")], Compression::Auto).unwrap();
        assert_eq!(names(&files), ["notes.txt", "b.csv"]);
        let error = list_files(&[format!("{path}/*.parquet")], Compression::Auto).unwrap_err();
        assert!(error.to_string().ends_with("*.parquet: there is no CSV file here"), "{error}");
        let error = list_files(&[format!("{path}/none.csv")], Compression::Auto).unwrap_err();
        assert!(matches!(error, FrameError::File(_)) && error.to_string().contains("none.csv"), "{error}");
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "x\n1\n").unwrap();
        let file = CsvFile::new(&path, Compression::Auto).unwrap();
        let (size, modified_ns) = (file.size, file.modified_ns);
        let range = FileRange { path: file.path, start: 0, end: 4, size, modified_ns };
        check_unchanged(std::slice::from_ref(&range)).unwrap();
        let touched = FileRange { modified_ns: modified_ns - 1, ..range.clone() };
        assert!(check_unchanged(&[touched]).unwrap_err().to_string().contains("has been written since"));
        std::fs::write(&path, "x\n10\n").unwrap();
        assert!(
            check_unchanged(std::slice::from_ref(&range))
                .unwrap_err()
                .to_string()
                .contains("it had 4 bytes and has 5")
        );
        std::fs::remove_file(&path).unwrap();
        assert!(check_unchanged(&[range]).unwrap_err().to_string().contains("cannot be read"));
    }
}
