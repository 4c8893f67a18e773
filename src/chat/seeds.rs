//! The seed of each request, so that it is known and can be stored before the engine draws with it.

use super::Chat;
use crate::protocol::SamplingChoice;

impl Chat {
    /// Lets requests without a seed of their own have one that follows from this random number. Without it the engine
    /// draws the seeds, and they are not known.
    pub fn seed_from(&mut self, random: u64) {
        self.seeds = Some(random);
    }

    /// How the request with this number samples.
    pub(super) fn sampling_of(&self, request: u64) -> SamplingChoice {
        let mut sampling = self.options.sampling.clone();
        sampling.seed = sampling.seed.or_else(|| self.compared_seed());
        sampling.seed = sampling.seed.or_else(|| self.seeds.map(|random| mixed(random, request)));
        sampling
    }
}

/// SplitMix64's output for this state; 53 bits, so that every reader of JSON keeps it.
fn mixed(random: u64, request: u64) -> u64 {
    let mut z = random.wrapping_add(request.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 11
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{ChatOptions, Conversation, Timestamp};
    use super::*;
    use crate::protocol::OverflowPolicy;

    #[test]
    fn each_request_has_its_own_seed_unless_one_is_set() {
        let options = ChatOptions {
            model: "tiny".into(),
            sampling: SamplingChoice::default(),
            think: None,
            max_tokens: None,
            on_overflow: OverflowPolicy::Error,
        };
        let mut chat = Chat::new(options, Conversation::default(), Timestamp::default());
        assert_eq!(chat.sampling_of(1).seed, None);
        chat.seed_from(5);
        let seeds: BTreeSet<_> = (1..100).map(|request| chat.sampling_of(request).seed).collect();
        assert!(seeds.len() == 99 && seeds.iter().all(|seed| seed.is_some_and(|seed| seed < 1 << 53)));
        chat.options.sampling.seed = Some(7);
        assert_eq!(chat.sampling_of(1).seed, Some(7));
    }
}
