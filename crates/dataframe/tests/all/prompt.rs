//! `dataframe shell`.

use crate::support::{failed, folder, printed, run_with_input};

#[test]
fn a_script_is_done_line_by_line() {
    let folder = folder();
    let script = "\
# names are kept
df = read_csv(\"people.csv\", dtype={\"x\": \"float64\"})
df[\"z\"] = df.x * 2
df.groupby(\"name\").z.sum()
sql select max(z) as top from df
df.name.isin([\"Ada\"]).head(1)
frames
1 + 1
exit
never reached
";
    let shown = printed(&run_with_input(folder.path(), &["shell"], script));
    let expected = "\
name,sum(z)
Ada,12.0
\"O'Hara, Scarlett\",4.0
Ñandú,6.0
top
10.0
name
true
df: name, x, y, z
2
";
    assert_eq!(shown, expected);
}

#[test]
fn a_script_ends_at_its_first_error() {
    let folder = folder();
    let script = "df = read_csv(\"people.csv\")\ndf.foo.max()\nlen(df)\n";
    let output = run_with_input(folder.path(), &["shell"], script);
    let error = failed(&output, 1);
    assert!(error.contains("  df.foo.max()\n     ^^^\nthere is no column and no operation `foo`"), "{error}");
    assert!(error.contains("line 2 failed"), "{error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_frame_without_files_gets_no_name() {
    let folder = folder();
    let error = failed(&run_with_input(folder.path(), &["shell"], "df = read_csv(\"missing*.csv\")\n"), 1);
    assert!(error.contains("missing*.csv") && error.contains("line 1 failed"), "{error}");
}

#[test]
fn worker_processes_compute_the_same_and_are_shown() {
    let folder = folder();
    let script = "\
df = read_csv(\"people.csv\")
df.groupby(\"name\").x.mean()
explain df.x.max()
nodes
";
    let shown = printed(&run_with_input(folder.path(), &["shell", "--workers", "2"], script));
    assert!(shown.starts_with("name,mean(x)\nAda,3.0\n\"O'Hara, Scarlett\",2.0\nÑandú,3.0\n"), "{shown}");
    assert!(shown.contains("task  worker  attempt\n"), "{shown}");
    assert!(shown.contains("\nworker1  ready") && shown.contains("\nworker2  ready"), "{shown}");
}
