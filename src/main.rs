//! Chooses a front end and maps its result to an exit code.

fn main() {}
