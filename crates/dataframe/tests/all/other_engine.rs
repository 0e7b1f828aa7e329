//! `--engine ballista`: what is refused, and, in a program that is built with Ballista, what its scheduler and executor give.

use crate::support::{command, failed, folder, run};

#[test]
fn wrong_engines_and_addresses_are_wrong_arguments() {
    let folder = folder();
    let refused = |flags: &[&str]| failed(&run(folder.path(), &[&["len", "people.csv"], flags].concat()), 2);
    let told = refused(&["--engine", "spark", "df://127.0.0.1:50050"]);
    assert_eq!(told, "error: --engine spark: the only other engine is ballista\n");
    let told = refused(&["--engine", "ballista", "127.0.0.1:50050"]);
    assert!(told.starts_with("error: --engine ballista 127.0.0.1:50050: give df://HOST:50050"), "{told}");
    let mut from_environment = command(folder.path());
    from_environment.args(["len", "people.csv"]).env("DATAFRAME_ENGINE", "ballista 127.0.0.1:50050");
    let told = failed(&from_environment.output().unwrap(), 2);
    assert!(told.starts_with("error: --engine ballista 127.0.0.1:50050: give df://HOST:50050"), "{told}");
    let told = refused(&["--engine", "ballista", "standalone", "--workers", "2"]);
    assert!(told.starts_with("error: --workers does not go with --engine ballista"), "{told}");
    let told = failed(&run(folder.path(), &["nodes", "list", "--engine", "ballista", "standalone"]), 2);
    assert!(told.contains("`nodes` needs a cluster"), "{told}");
}

#[cfg(not(feature = "ballista"))]
#[test]
fn a_program_without_ballista_says_how_to_build_one_with_it() {
    let folder = folder();
    let told = failed(
        &run(folder.path(), &["len", "people.csv", "--engine", "ballista", "df://127.0.0.1:50050"]),
        2,
    );
    assert!(told.contains("built without Ballista") && told.contains("--features ballista"), "{told}");
}

#[cfg(feature = "ballista")]
mod with_ballista {
    use super::*;
    use crate::support::{printed, run_with_input};

    const STANDALONE: [&str; 3] = ["--engine", "ballista", "standalone"];

    #[test]
    fn a_scheduler_that_is_not_there_is_one_line() {
        let folder = folder();
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("df://127.0.0.1:{port}");
        let told = failed(
            &run(folder.path(), &["len", "people.csv", "--engine", "ballista", &address, "--wait", "0s"]),
            1,
        );
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(
            told.contains(&format!("{address}: no scheduler of Ballista")) && told.contains("refused"),
            "{told}"
        );
    }

    #[test]
    fn the_prompt_and_each_format() {
        let folder = folder();
        let lines = "df = read_csv(\"people.csv\")\ndf.groupby(\"name\").agg(\"mean(x)\")\ndf[df.x > 2].x.sum()\n\
                     len(df)\ndf.x.to_csv(\"x.csv\")\ndf.x.to_parquet(\"x.parquet\")\n";
        let told = printed(&run_with_input(folder.path(), &[&["shell"][..], &STANDALONE].concat(), lines));
        assert_eq!(told, "name,mean(x)\nAda,3.0\n\"O'Hara, Scarlett\",2.0\nÑandú,3.0\nx\n8\nlen\n4\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("x.csv")).unwrap(), "x\n1\n2\n3\n5\n");
        assert!(std::fs::read(folder.path().join("x.parquet")).unwrap().starts_with(b"PAR1"));
        let head = ["head", "people.csv", "-n", "1", "--output"];
        let as_format = |format| printed(&run(folder.path(), &[&head[..], &[format], &STANDALONE].concat()));
        assert_eq!(as_format("json"), "{\"name\":\"Ada\",\"x\":1,\"y\":0.5}\n");
        assert!(as_format("table").contains("Ada"));
        let plan =
            printed(&run(folder.path(), &[&["max", "people.csv", "--explain"][..], &STANDALONE].concat()));
        assert!(plan.contains("TableScan"), "{plan}");
    }

    #[test]
    fn what_the_data_does_wrong_is_named_without_the_engines_inner_words() {
        let folder = folder();
        for (words, wanted) in [
            (&["max", "absent.csv"][..], "absent.csv"),
            (&["query", "people.csv", "absent > 1"], "No field named absent"),
            (&["apply", "people.csv", "x / (x - x)"], "division by zero, in the expression"),
            (&["max", "people.csv", "--dtype", "name=int64"], "column \"name\": the value \"Ada\""),
        ] {
            let told = failed(&run(folder.path(), &[words, &STANDALONE].concat()), 1);
            assert!(told.contains(wanted), "{told}");
            assert!(!told.contains("DataFusionError") && !told.contains("Status {"), "{told}");
        }
    }
}
