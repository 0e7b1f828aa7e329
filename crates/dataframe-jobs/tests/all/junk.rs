//! Random and mutated bytes, through the bodies of the fuzz targets. `JUNK_ROUNDS=1000000` runs more.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::messages::all_packets;

#[path = "../../fuzz/bodies.rs"]
mod bodies;

const LIST: &str = r#"[{"read_csv":{"paths":["a"],"separator":";","dtypes":{"x":"int64"}}},{"isin":{"values":[1,-2.5e-3,"\u00e9",null],"column":"x"}},{"merge":{"right":[{"read_csv":{"paths":["b"]}}],"left_on":["x"],"right_on":["y"]}},{"head":{"n":18446744073709551615,"partitions":-1}}]"#;

/// Changes some bytes: flips, copies, cuts, and pieces of the language.
fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    const WORDS: [&str; 12] =
        ["{", "}", "[", "]", "\"", ",", ":", "\n", "1e400", "\"read_csv\"", "\"version\":1", "null"];
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => {
                bytes.remove(at);
            }
            3 => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            _ => {
                let from = rng.random_range(0..=at);
                let part = bytes[from..at].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

fn run(seeds: &[Vec<u8>], body: impl Fn(&[u8]) -> bool) {
    let rounds =
        std::env::var("JUNK_ROUNDS").map_or(4000, |rounds| rounds.parse().expect("a number of rounds"));
    let mut accepted = 0_u64;
    for round in 0..rounds {
        let mut rng = StdRng::seed_from_u64(round);
        let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
        mutate(&mut rng, &mut bytes);
        accepted += u64::from(body(&bytes));
        let random: Vec<u8> = (0..rng.random_range(0..64)).map(|_| rng.random()).collect();
        body(&random);
    }
    assert!(accepted > 0 && accepted < rounds, "{accepted} of {rounds} were accepted");
}

#[test]
fn any_bytes_are_a_list_or_none() {
    run(&[LIST.as_bytes().to_vec()], bodies::operations);
}

#[test]
fn any_bytes_are_a_packet_or_none() {
    run(&all_packets(), bodies::packets);
}
