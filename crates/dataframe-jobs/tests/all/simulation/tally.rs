//! What came of the worlds.

/// How often things happened.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub jobs: u64,
    pub done: u64,
    /// Stages that followed an earlier one.
    pub stages: u64,
    pub bad: u64,
    pub poisonous: u64,
    pub worn_out: u64,
    pub no_workers: u64,
    pub cancelled: u64,
    pub deaths: u64,
    pub hangs: u64,
    pub lost: u64,
    pub sent: u64,
    pub discarded: u64,
    pub delivered_again: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.done += other.done;
        self.stages += other.stages;
        self.bad += other.bad;
        self.poisonous += other.poisonous;
        self.worn_out += other.worn_out;
        self.no_workers += other.no_workers;
        self.cancelled += other.cancelled;
        self.deaths += other.deaths;
        self.hangs += other.hangs;
        self.lost += other.lost;
        self.sent += other.sent;
        self.discarded += other.discarded;
        self.delivered_again += other.delivered_again;
    }
}
