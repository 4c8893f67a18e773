//! What the store's thread reads about stored conversations for the list and the start screen.

use super::picker::Item;
use crate::conversation::TurnId;

/// A stored conversation on the start screen. Sanitised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    pub title: String,
    /// The first line of the first question, if the title does not begin with it.
    pub first: String,
    /// Age and model.
    pub about: String,
}

/// What the store's thread read for the list.
#[derive(Debug)]
pub enum Reading {
    All(Vec<Item>),
    Found {
        query: String,
        items: Vec<Item>,
        hits: Vec<(String, TurnId)>,
    },
    /// It cannot be read.
    Failed(String),
}
