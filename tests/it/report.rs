//! `chatnap report`: verdicts, files, repetitions, an interruption.
