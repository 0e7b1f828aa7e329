//! What is on a disk after a crash, at every moment of a real run.
//!
//! A program is run under `strace`, which tells what it asked of the operating system, and what it told others
//! ([`trace`](mod@trace)). From that come the states that a disk may be in if the machine stops then ([`states`]): what was
//! synced is there, and of the rest anything may be there or not, in any order. A test opens the program again on each of them.
//! This is the method of ALICE (Pillai and others, "All File Systems Are Not Created Equal", OSDI 2014), with the weakest file
//! system that POSIX allows: names need a sync of their folder, and what is written without a sync may come to the disk in any
//! order, cut at any sector, or as zeros.

pub mod states;
pub mod trace;
