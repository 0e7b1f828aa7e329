//! CSV files in a bucket of S3: read in one process and by workers over each middleware, and put there by the program.

use std::path::Path;
use std::process::{Output, Stdio};

use brokers::{RabbitServer, RedisServer, S3Server};
use tempfile::TempDir;

use crate::support::{PEOPLE, command, failed, folder, printed};

/// Enough for several tasks, each of which reads a range: a task has at least 16 MiB.
const LARGE_BYTES: usize = 40 << 20;

fn run(folder: &Path, environment: &[(&'static str, String)], words: &[&str]) -> Output {
    let mut command = command(folder);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().cloned()).args(words).stdin(Stdio::null()).output().unwrap()
}

/// A bucket with the file of people, a compressed one, and what else is in folders.
fn filled() -> (S3Server, TempDir) {
    let server = S3Server::start();
    server.put("data/people.csv", PEOPLE);
    server.put("data/more.csv", "name,x,y\nGrace,7,\n");
    server.put("data/notes.txt", "no data");
    server.put("data/deep/other.csv", "name,x,y\nLinus,9,0.1\n");
    server.put("año/b c%20.csv", "k\n1\n2\n");
    (server, folder())
}

#[test]
fn files_folders_and_patterns_of_a_bucket_are_read() {
    let (server, folder) = filled();
    let answer = |words: &[&str]| printed(&run(folder.path(), &server.environment(), words));
    let local =
        printed(&run(folder.path(), &[], &["groupby", "people.csv", "--by", "name", "--agg", "mean(x)"]));
    let there = answer(&["groupby", "s3://cluster/data/people.csv", "--by", "name", "--agg", "mean(x)"]);
    assert_eq!(there, local);
    for (path, sum) in [
        ("s3://cluster/data", 18),
        ("s3://cluster/data/", 18),
        ("s3://cluster/data/*.csv", 18),
        ("s3://cluster/data/[mp]*.csv", 18),
        ("s3://cluster/*/m*.csv", 7),
        ("s3://cluster/data/*/*.csv", 9),
        ("s3://cluster/data/**/*.csv", 27),
    ] {
        assert_eq!(answer(&["sum", path, "--columns", "x"]), format!("x\n{sum}\n"), "{path}");
    }
    assert_eq!(answer(&["len", "s3://cluster/año/b c%20.csv"]), "len\n2\n");
    let rows = answer(&["sql", "s3://cluster/data/people.csv", "select x from df order by x desc limit 1"]);
    assert_eq!(rows, "x\n5\n");
    let line = "read_csv(\"s3://cluster/data/*.csv\").head(1)";
    assert_eq!(answer(&["eval", line]), "name,x,y\nGrace,7,\n");
}

#[test]
fn irregular_files_in_a_bucket_are_read_as_on_a_disk() {
    let (server, folder) = filled();
    let late = format!("a,b\n{}1.5,x\n", "1,x\n".repeat(400_000));
    let quoted = format!("a,b\n{}", "1,\"two\nlines\"\n".repeat(200_000));
    let late_quote = format!("a,b\n{}1,\"two\nlines\"\n", "1,x\n".repeat(900_000));
    let irregular = format!("a,b\n{}", "1,5\" pipe\n".repeat(2000));
    for (name, text) in [
        ("late.csv", &late),
        ("quoted.csv", &quoted),
        ("latequote.csv", &late_quote),
        ("irregular.csv", &irregular),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
        server.put(&format!("data/{name}"), text.clone());
        let of = |path: &str| {
            printed(&run(
                folder.path(),
                &server.environment(),
                &["groupby", path, "--by", "b", "--agg", "sum(a)", "count(a)"],
            ))
        };
        assert_eq!(of(&format!("s3://cluster/data/{name}")), of(name), "{name}");
    }
    server.put("data/bad.csv", "a,b\n1,x\n2,y,z\n");
    let told = failed(&run(folder.path(), &server.environment(), &["len", "s3://cluster/data/bad.csv"]), 1);
    assert!(told.contains("s3://cluster/data/bad.csv: line 3 has 3 fields"), "{told}");
}

#[test]
fn workers_read_ranges_of_an_object_over_each_middleware() {
    let (server, folder) = filled();
    let rows = "Ada,1,0.5\nGrace,2,\n";
    let large = format!("name,x,y\n{}", rows.repeat(LARGE_BYTES / rows.len()));
    std::fs::write(folder.path().join("large.csv"), &large).unwrap();
    server.put("data/large.csv", large);
    let words = |path: &'static str| ["groupby", path, "--by", "name", "--agg", "sum(x)", "count(y)"];
    let expected = printed(&run(folder.path(), &[], &words("large.csv")));
    let bucket = folder.path().join("bucket");
    let (redis, rabbit) = (RedisServer::start(), RabbitServer::start());
    let redis = redis.as_ref().map(RedisServer::url);
    for (middleware, broker) in [
        ("grpc", Some(None)),
        ("xmlrpc", Some(None)),
        ("redis", redis.clone().map(Some)),
        ("rabbitmq", rabbit.as_ref().map(|server| Some(server.url()))),
        ("objectstore", Some(bucket.to_str().map(str::to_owned))),
        ("objectstore", Some(Some(format!("s3://{}/run", S3Server::BUCKET)))),
        ("hybrid-grpc", redis.clone().map(Some)),
        ("hybrid-xmlrpc", redis.map(Some)),
    ] {
        // A broker that is not installed has been told of.
        let Some(broker) = broker else { continue };
        let before = server.ranges();
        let mut all = words("s3://cluster/data/large.csv").to_vec();
        all.extend(["--workers", "2", "--middleware", middleware]);
        all.extend(broker.as_ref().into_iter().flat_map(|url| ["--broker", url.as_str()]));
        assert_eq!(printed(&run(folder.path(), &server.environment(), &all)), expected, "{middleware}");
        assert!(server.ranges() > before + 5, "{middleware}: the object was read in pieces");
    }
}

#[test]
fn what_is_wrong_with_a_bucket_is_named() {
    let (server, folder) = filled();
    let mut environment = server.environment();
    let told = |environment: &[(&'static str, String)], path: &str| {
        failed(&run(folder.path(), environment, &["len", path]), 1)
    };
    for path in ["s3://cluster/data/none.csv", "s3://cluster/none", "s3://elsewhere/data/people.csv"] {
        let told = told(&environment, path);
        assert!(told.contains(path) && told.contains("there is no such object, or no such bucket"), "{told}");
    }
    let nothing = told(&environment, "s3://cluster/data/*.tsv");
    assert!(nothing.contains("s3://cluster/data/*.tsv: there is no CSV file here"), "{nothing}");
    let broken = told(&environment, "s3://clus ter/a.csv");
    assert!(broken.contains("s3://BUCKET/KEY"), "{broken}");
    std::fs::write(folder.path().join("here.csv"), PEOPLE).unwrap();
    let words = ["len", "here.csv", "s3://cluster/data/people.csv"];
    let mixed = failed(&run(folder.path(), &environment, &words), 1);
    assert!(mixed.contains("cannot be read together"), "{mixed}");

    let without: Vec<_> = environment
        .iter()
        .filter(|(name, _)| !name.contains("KEY"))
        .cloned()
        // The address of a cloud's roles, where nobody is.
        .chain([("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9".to_owned())])
        .collect();
    let none = told(&without, "s3://cluster/data/people.csv");
    assert!(none.contains("there are no credentials for S3: set AWS_ACCESS_KEY_ID"), "{none}");

    let place = environment.iter().position(|(name, _)| *name == "AWS_ENDPOINT").unwrap();
    environment[place].1 = "http://127.0.0.1:9".to_owned();
    let away = told(&environment, "s3://cluster/data/people.csv");
    assert!(away.contains("does not answer at http://127.0.0.1:9"), "{away}");
}

#[test]
fn a_wrong_secret_ends_with_an_error_and_a_code() {
    let (server, folder) = filled();
    let mut environment = server.environment();
    let place = environment.iter().position(|(name, _)| *name == "AWS_SECRET_ACCESS_KEY").unwrap();
    environment[place].1 = "wrong-secret".to_owned();
    let broker = format!("s3://{}/run", S3Server::BUCKET);
    for (number, words) in [
        vec!["len", "s3://cluster/data/people.csv"],
        vec!["len", "people.csv", "--upload", &broker],
        vec!["len", "people.csv", "--workers", "1", "--middleware", "objectstore", "--broker", &broker],
    ]
    .iter()
    .enumerate()
    {
        let before = server.refused();
        let told = failed(&run(folder.path(), &environment, words), 1);
        assert!(told.contains("refuses the credentials") && told.contains("AWS_SECRET_ACCESS_KEY"), "{told}");
        assert!(!told.contains("wrong-secret"), "{told}");
        assert!(server.refused() > before, "{number}: the server has refused nothing");
    }
    assert!(server.keys().iter().all(|key| key.starts_with("data/") || key.starts_with("año/")));
}

#[test]
fn files_of_the_client_are_put_into_the_bucket_once() {
    let (server, folder) = filled();
    let environment = server.environment();
    let uploads = || server.keys().into_iter().filter(|key| key.contains("/uploads/")).collect::<Vec<_>>();
    let expected = printed(&run(folder.path(), &[], &["sum", "people.csv", "--columns", "x"]));
    std::fs::copy(folder.path().join("people.csv"), folder.path().join("copy.csv")).unwrap();
    let to = format!("s3://{}/jobs", S3Server::BUCKET);
    let sum = |paths: &[&str], to: &str| {
        let mut words = vec!["sum"];
        words.extend(paths);
        words.extend(["--columns", "x", "--workers", "1", "--upload", to]);
        printed(&run(folder.path(), &environment, &words))
    };
    assert_eq!(sum(&["people.csv"], &to), expected);
    assert_eq!(uploads().len(), 1);
    let puts = server.puts();
    assert_eq!(sum(&["people.csv", "copy.csv"], &to), "x\n22\n");
    assert_eq!((uploads().len(), server.puts()), (1, puts), "the same content is put once");
    assert!(server.puts_if_absent() > 0);
    // A long file goes in parts.
    let large = format!("name,x,y\n{}", "Ada,1,0.5\n".repeat(2_000_000));
    std::fs::write(folder.path().join("large.csv"), &large).unwrap();
    assert_eq!(sum(&["large.csv"], &to), "x\n2000000\n");
    assert_eq!(uploads().len(), 2);
    // A folder that all reach is a bucket, too.
    let shared = folder.path().join("shared");
    assert_eq!(sum(&["people.csv"], &format!("file://{}", shared.display())), expected);
    assert_eq!(std::fs::read_dir(shared.join("uploads")).unwrap().count(), 1);
}

#[test]
fn errors_name_the_file_of_the_client() {
    let (server, folder) = filled();
    std::fs::write(folder.path().join("bad.csv"), "a,b\n1,x\n2,y,z\n").unwrap();
    let to = format!("s3://{}/jobs", S3Server::BUCKET);
    for place in [&[][..], &["--workers", "1"]] {
        let words = [&["len", "bad.csv", "--upload", &to], place].concat();
        let told = failed(&run(folder.path(), &server.environment(), &words), 1);
        // The master of --workers has its own log, which knows nothing of the client's names.
        let error = told.lines().find(|line| line.contains(" ERROR ")).expect("the program says why");
        assert!(error.contains("/bad.csv: line 3 has 3 fields") && !error.contains("uploads"), "{error}");
    }
    let missing =
        failed(&run(folder.path(), &server.environment(), &["len", "none.csv", "--upload", &to]), 1);
    assert!(missing.contains("none.csv"), "{missing}");
    let wrong = failed(&run(folder.path(), &[], &["len", "bad.csv", "--upload", "http://a/b"]), 2);
    assert!(wrong.contains("--upload") && wrong.contains("s3://BUCKET/PREFIX"), "{wrong}");
}
