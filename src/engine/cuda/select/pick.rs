//! Which GPUs hold a model: pure decisions over what is known about each of them.

use std::cmp::Reverse;

/// Numbers of GPUs that one model is spread over without being asked: attention heads divide by them.
const COUNTS: [usize; 4] = [1, 2, 4, 8];

/// GPUs beyond this number are not considered, because all sets of them are tried.
const MOST_CARDS: usize = 16;

/// Bytes that each GPU needs beside its share of the weights: KV cache, scratch buffers, staging of the upload.
const BESIDE: u64 = 3 << 29;

/// What is known about a GPU. Its place among the others is CUDA's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Bytes of its memory that this process may use.
    pub usable: u64,
    pub compute_capability: (i32, i32),
    /// Whether it and the card at each place can access each other's memory.
    pub peers: Vec<bool>,
}

/// The places of the cards that hold `weights` bytes: the first card that does alone, else the fewest cards that can access
/// each other; if there are none, the first card.
pub fn pick(cards: &[Card], weights: u64) -> Vec<usize> {
    let alone = cards.iter().position(|card| card.usable >= share(weights, 1)).map(|place| vec![place]);
    let together = || COUNTS[1..].iter().find_map(|count| holding(cards, *count, weights, true));
    alone.or_else(together).unwrap_or_else(|| vec![0])
}

/// The places of the cards that the largest model would take by `pick`, and the bytes that they hold: equal shares.
pub fn largest(cards: &[Card]) -> (Vec<usize>, u64) {
    let sets = COUNTS.iter().filter_map(|count| {
        let (set, least) = best(cards, *count, true)?;
        Some((set, least.saturating_mul(*count as u64)))
    });
    // The smaller set of equals.
    sets.min_by_key(|(_, bytes)| Reverse(*bytes)).unwrap_or_default()
}

/// Sets of cards that hold `needed` bytes, for a user who chose the card at the place `chosen`, which does not: another
/// card alone, and the fewest together. Cards without access to each other are used only if no others hold it.
pub fn others(cards: &[Card], chosen: usize, needed: u64) -> Vec<Vec<usize>> {
    let given = cards.get(chosen).map_or(0, |card| card.usable);
    let alone = best(cards, 1, true).filter(|(_, usable)| *usable > given && *usable >= share(needed, 1));
    let fewest = |connected| COUNTS[1..].iter().find_map(|count| holding(cards, *count, needed, connected));
    alone.map(|(set, _)| set).into_iter().chain(fewest(true).or_else(|| fewest(false))).collect()
}

/// Bytes that each of `count` GPUs needs for a model of `weights` bytes. Planes with padding take slightly more than the
/// file: 2 % is added.
fn share(weights: u64, count: usize) -> u64 {
    let part = weights / count as u64;
    part.saturating_add(part / 50).saturating_add(BESIDE)
}

/// The best set of `count` cards if each holds its share.
fn holding(cards: &[Card], count: usize, weights: u64, connected: bool) -> Option<Vec<usize>> {
    best(cards, count, connected).filter(|(_, least)| *least >= share(weights, count)).map(|(set, _)| set)
}

/// The set of `count` cards of one compute capability whose smallest has the most usable bytes, and these bytes; the first
/// of equals. `connected`: only sets in which all can access each other.
fn best(cards: &[Card], count: usize, connected: bool) -> Option<(Vec<usize>, u64)> {
    let cards = &cards[..cards.len().min(MOST_CARDS)];
    let sets = (1_u32..1 << cards.len()).filter(|mask| mask.count_ones() as usize == count);
    let sets = sets.map(|mask| (0..cards.len()).filter(|place| mask >> place & 1 == 1).collect::<Vec<_>>());
    let fitting = sets.filter(|set| {
        let alike = |place: &usize| cards[*place].compute_capability == cards[set[0]].compute_capability;
        let access = |a: usize, b: usize| a == b || cards[a].peers.get(b) == Some(&true);
        set.iter().all(alike) && (!connected || set.iter().all(|a| set.iter().all(|b| access(*a, *b))))
    });
    let measured = fitting.filter_map(|set| Some((set.iter().map(|place| cards[*place].usable).min()?, set)));
    let found = measured.min_by(|(a, first), (b, second)| b.cmp(a).then_with(|| first.cmp(second)));
    found.map(|(least, set)| (set, least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    /// Cards of one kind with these gigabytes, all connected.
    fn cards(usable: &[u64]) -> Vec<Card> {
        let card = |gigabytes: &u64| Card {
            usable: gigabytes * GB,
            compute_capability: (9, 0),
            peers: vec![true; usable.len()],
        };
        usable.iter().map(card).collect()
    }

    /// As `cards`, where only the listed pairs have access to each other.
    fn joined(usable: &[u64], pairs: &[(usize, usize)]) -> Vec<Card> {
        let mut cards = cards(usable);
        cards.iter_mut().for_each(|card| card.peers.fill(false));
        for (a, b) in pairs {
            cards[*a].peers[*b] = true;
            cards[*b].peers[*a] = true;
        }
        cards
    }

    #[test]
    fn one_card_is_taken_wherever_one_suffices() {
        assert_eq!(pick(&cards(&[80]), 70 * GB), [0]);
        assert_eq!(pick(&cards(&[80, 80]), 70 * GB), [0]);
        assert_eq!(pick(&cards(&[24, 80]), 70 * GB), [1], "the first one is too small");
        assert_eq!(pick(&cards(&[5, 72]), 40 * GB), [1], "the first one is in use");
        assert_eq!(pick(&cards(&[24, 80]), 10 * GB), [0]);
    }

    #[test]
    fn two_cards_are_taken_where_one_is_too_small() {
        assert_eq!(pick(&cards(&[80, 80]), 140 * GB), [0, 1]);
        assert_eq!(pick(&cards(&[80, 24]), 90 * GB), [0], "half of it is too much for the small one");
        assert_eq!(pick(&cards(&[80, 5]), 90 * GB), [0], "one is in use");
        assert_eq!(pick(&cards(&[24, 80, 80]), 140 * GB), [1, 2]);
        assert_eq!(pick(&cards(&[70, 72, 75, 60]), 100 * GB), [1, 2], "those with the most memory");
    }

    #[test]
    fn each_card_needs_its_share_and_the_buffers() {
        let enough = 20 * GB + 20 * GB / 50 + (3 << 29);
        let with = |usable| {
            let mut cards = cards(&[0, 0]);
            cards.iter_mut().for_each(|card| card.usable = usable);
            pick(&cards, 40 * GB)
        };
        assert_eq!(with(enough), [0, 1]);
        assert_eq!(with(enough - 1), [0]);
    }

    #[test]
    fn four_and_eight_are_taken_but_not_three() {
        assert_eq!(pick(&cards(&[80; 4]), 280 * GB), [0, 1, 2, 3]);
        assert_eq!(pick(&cards(&[80; 3]), 200 * GB), [0], "three are not tried");
        assert_eq!(pick(&cards(&[80; 4]), 200 * GB), [0, 1, 2, 3]);
        assert_eq!(pick(&cards(&[80; 8]), 600 * GB), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(pick(&cards(&[80; 8]), 900 * GB), [0]);
        assert_eq!(pick(&cards(&[80; 40]), 140 * GB), [0, 1], "a cluster of cards is no trouble");
    }

    #[test]
    fn cards_must_reach_each_other_and_be_alike() {
        assert_eq!(pick(&joined(&[80, 80], &[]), 140 * GB), [0]);
        assert_eq!(pick(&joined(&[80, 80, 75, 75], &[(2, 3)]), 140 * GB), [2, 3]);
        let chain = joined(&[80; 4], &[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(pick(&chain, 280 * GB), [0], "each of them must reach each other one");
        let mut mixed = cards(&[80, 80, 75]);
        mixed[0].compute_capability = (8, 0);
        assert_eq!(pick(&mixed, 140 * GB), [1, 2]);
        assert_eq!(pick(&mixed[..2], 140 * GB), [0]);
    }

    #[test]
    fn the_largest_model_takes_equal_shares() {
        assert_eq!(largest(&[]), (vec![], 0));
        assert_eq!(largest(&cards(&[80])), (vec![0], 80 * GB));
        assert_eq!(largest(&cards(&[80, 72])), (vec![0, 1], 144 * GB));
        assert_eq!(largest(&cards(&[80, 24])), (vec![0], 80 * GB));
        assert_eq!(largest(&cards(&[48, 24])), (vec![0], 48 * GB), "two would hold no more");
        assert_eq!(largest(&cards(&[24, 80, 70, 70])), (vec![1, 2], 140 * GB));
        assert_eq!(largest(&joined(&[60, 70], &[])), (vec![1], 70 * GB));
    }

    #[test]
    fn a_card_that_is_too_small_has_others_suggested() {
        assert_eq!(others(&cards(&[24]), 0, 30 * GB), [[0; 0]; 0]);
        assert_eq!(others(&cards(&[24, 24]), 1, 30 * GB), [[0, 1]]);
        assert_eq!(others(&cards(&[24, 80]), 0, 30 * GB), [vec![1], vec![0, 1]]);
        assert_eq!(others(&joined(&[24, 24], &[]), 0, 30 * GB), [[0, 1]], "slower, but it works");
        assert_eq!(others(&joined(&[24, 24, 20, 20], &[(2, 3)]), 0, 30 * GB), [[2, 3]], "rather the connected ones");
        assert_eq!(others(&cards(&[24, 24]), 0, 300 * GB), [[0; 0]; 0]);
    }
}
