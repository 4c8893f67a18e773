//! Splits a model among GPUs (tensor parallel): which rows or columns of each tensor a GPU holds. Only arithmetic.
//!
//! Q, K, V, gate, up and the head are split by rows, O and down by columns, so that a layer needs two exchanges: the sums
//! of O and of down. Each GPU has whole heads with the key heads that they attend to, and the KV cache of these. Norms and
//! the embedding are on every GPU.

use std::ops::Range;

use super::params::MOST_RANKS;
use crate::engine::error::ModelError;
use crate::engine::model::config::ModelConfig;
use crate::engine::weights::plan::{PlannedTensor, TensorPlan};

/// Numbers one GPU among those of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub rank: usize,
    /// Number of GPUs.
    pub ranks: usize,
}

impl Share {
    /// The only GPU of a model.
    pub const WHOLE: Self = Self { rank: 0, ranks: 1 };

    /// This GPU's part of `count` units.
    fn part(self, count: usize) -> Range<usize> {
        count * self.rank / self.ranks..count * (self.rank + 1) / self.ranks
    }
}

/// The rows and columns of a tensor that a GPU holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub rows: Range<usize>,
    pub cols: Range<usize>,
}

impl Piece {
    /// Whether the columns are whole blocks of the tensor's type; others are stored as F32.
    pub fn is_whole_blocks(&self, tensor: &PlannedTensor) -> bool {
        let block = tensor.kind.block_size();
        self.cols.start.is_multiple_of(block) && self.cols.len().is_multiple_of(block)
    }
}

/// One GPU's part of a model.
#[derive(Clone, Debug)]
pub struct Split {
    pub share: Share,
    /// The model's configuration with the numbers of heads and the width of the feed-forward part that this GPU has.
    pub config: ModelConfig,
    /// Rows of the head, that is tokens whose logits this GPU computes.
    pub vocabulary: Range<usize>,
    queries: Range<usize>,
    keys: Range<usize>,
    feed_forward: Range<usize>,
}

/// Units of the vocabulary: see `Mat::of_rows`.
const ROWS: usize = 64;

impl Split {
    /// The whole model on one GPU.
    pub fn whole(config: &ModelConfig) -> Self {
        Self {
            share: Share::WHOLE,
            config: config.clone(),
            vocabulary: 0..config.vocab_size,
            queries: 0..config.heads * config.head_dim,
            keys: 0..config.kv_heads * config.head_dim,
            feed_forward: 0..config.feed_forward,
        }
    }

    /// The part of one GPU; `Unsupported` if the model cannot be split among so many.
    pub fn new(config: &ModelConfig, plan: &TensorPlan, share: Share) -> Result<Self, ModelError> {
        let Share { rank, ranks } = share;
        if ranks <= 1 {
            return Ok(Self::whole(config));
        }
        let refuse = |why: String| {
            let counts = Self::counts(config, plan);
            let others = match counts.is_empty() {
                true => "it runs on one GPU only".to_owned(),
                false => format!("it can be split among {}", list(&counts)),
            };
            Err(ModelError::Unsupported(format!("the model cannot be split among {ranks} GPUs: {why}; {others}")))
        };
        if ranks > MOST_RANKS {
            return refuse(format!("{MOST_RANKS} are the most"));
        }
        let (heads, kv, dim) = (config.heads, config.kv_heads, config.head_dim);
        if !heads.is_multiple_of(ranks) || !(kv.is_multiple_of(ranks) || ranks.is_multiple_of(kv)) {
            return refuse(format!("it has {heads} heads and {kv} key heads"));
        }
        let Some(unit) = unit(config, plan, ranks) else {
            return refuse(format!("its feed-forward part is {} wide", config.feed_forward));
        };
        if config.vocab_size < ROWS * ranks {
            return refuse(format!("it has {} tokens", config.vocab_size));
        }
        let queries = share.part(heads);
        // If there are fewer key heads than GPUs, several hold the same one.
        let keys = if kv.is_multiple_of(ranks) { share.part(kv) } else { rank * kv / ranks..rank * kv / ranks + 1 };
        let feed_forward = share.part(config.feed_forward / unit);
        let feed_forward = feed_forward.start * unit..feed_forward.end * unit;
        let rows = share.part(config.vocab_size.div_ceil(ROWS));
        let own = ModelConfig {
            heads: queries.len(),
            kv_heads: keys.len(),
            feed_forward: feed_forward.len(),
            ..config.clone()
        };
        Ok(Self {
            share,
            config: own,
            vocabulary: rows.start * ROWS..(rows.end * ROWS).min(config.vocab_size),
            queries: queries.start * dim..queries.end * dim,
            keys: keys.start * dim..keys.end * dim,
            feed_forward,
        })
    }

    /// The numbers of GPUs above one that the model can be split among.
    pub fn counts(config: &ModelConfig, plan: &TensorPlan) -> Vec<usize> {
        let fits = |ranks: &usize| {
            config.heads.is_multiple_of(*ranks)
                && (config.kv_heads.is_multiple_of(*ranks) || ranks.is_multiple_of(config.kv_heads))
                && unit(config, plan, *ranks).is_some()
                && config.vocab_size >= ROWS * ranks
        };
        (2..=MOST_RANKS).filter(fits).collect()
    }

    /// The part of the tensor with this name that the GPU holds.
    pub fn piece(&self, name: &str, tensor: &PlannedTensor) -> Piece {
        let (rows, cols) = (0..tensor.rows, 0..tensor.cols);
        let part = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, part)| part);
        match part {
            "attn_q.weight" => Piece { rows: self.queries.clone(), cols },
            "attn_k.weight" | "attn_v.weight" => Piece { rows: self.keys.clone(), cols },
            "ffn_gate.weight" | "ffn_up.weight" => Piece { rows: self.feed_forward.clone(), cols },
            "output.weight" => Piece { rows: self.vocabulary.clone(), cols },
            // Vectors are one row.
            "attn_q.bias" | "attn_output.weight" => Piece { rows, cols: self.queries.clone() },
            "attn_k.bias" | "attn_v.bias" => Piece { rows, cols: self.keys.clone() },
            "ffn_down.weight" => Piece { rows, cols: self.feed_forward.clone() },
            _ => Piece { rows, cols },
        }
    }
}

/// The unit of the feed-forward part: whole blocks of every layer's down matrix, and as many columns as the kernels for
/// prompts read at a time, if there are enough of them.
fn unit(config: &ModelConfig, plan: &TensorPlan, ranks: usize) -> Option<usize> {
    let down = (0..config.layers).filter_map(|layer| plan.get(&format!("blk.{layer}.ffn_down.weight")));
    let block = down.map(|tensor| tensor.kind.block_size()).max().unwrap_or(1).max(32);
    let fits = |unit: &usize| unit.is_multiple_of(block) && config.feed_forward.is_multiple_of(*unit);
    [256, 128, 64, 32].into_iter().filter(fits).find(|unit| config.feed_forward / unit >= ranks)
}

/// `2, 4 or 8`.
fn list(counts: &[usize]) -> String {
    let words: Vec<String> = counts.iter().map(usize::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::engine::cpu::GgmlType;
    use crate::engine::model::parts::ModelParts;
    use crate::engine::source::ModelFiles;
    use crate::engine::weights::testing::Spec;

    fn opened(spec: &Spec) -> ModelParts {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, spec.gguf().bytes(&spec.tensors())).unwrap();
        ModelParts::open(&ModelFiles::Gguf(vec![path]), Some(64)).unwrap()
    }

    fn spec(kind: GgmlType) -> Spec {
        Spec { hidden: 512, ff: 1536, layers: 1, heads: 8, kv: 2, dim: 64, vocab: 2000, kind, ..Spec::new("llama") }
    }

    fn splits(parts: &ModelParts, ranks: usize) -> Vec<Split> {
        (0..ranks).map(|rank| Split::new(&parts.config, &parts.plan, Share { rank, ranks }).unwrap()).collect()
    }

    /// Every number of a tensor is on one GPU; those of a key head that several GPUs need, and of norms and the embedding,
    /// on more.
    #[test]
    fn pieces_of_all_ranks_cover_every_tensor() {
        let parts = opened(&spec(GgmlType::Q4K));
        for ranks in [1, 2, 4] {
            let splits = splits(&parts, ranks);
            for (name, tensor) in &parts.plan.tensors {
                let mut covered = vec![0_usize; tensor.rows * tensor.cols];
                for split in &splits {
                    let piece = split.piece(name, tensor);
                    for row in piece.rows {
                        piece.cols.clone().for_each(|col| covered[row * tensor.cols + col] += 1);
                    }
                }
                let shared = name.contains("attn_k") || name.contains("attn_v");
                let times = match name.as_str() {
                    "token_embd.weight" => ranks,
                    _ if name.contains("norm") => ranks,
                    _ if shared && ranks == 4 => 2,
                    _ => 1,
                };
                assert!(covered.iter().all(|count| *count == times), "{name} on {ranks}");
            }
        }
    }

    #[test]
    fn each_rank_has_whole_heads_with_their_key_heads() {
        let parts = opened(&spec(GgmlType::BF16));
        let shape = |split: &Split| (split.config.heads, split.config.kv_heads, split.config.feed_forward);
        let two = splits(&parts, 2);
        assert_eq!(two.iter().map(shape).collect::<Vec<_>>(), [(4, 1, 768), (4, 1, 768)]);
        assert_eq!((two[1].queries.clone(), two[1].keys.clone()), (256..512, 64..128));
        // Two ranks for each of the two key heads.
        let four = splits(&parts, 4);
        let keys: Vec<_> = four.iter().map(|split| split.keys.clone()).collect();
        assert_eq!(keys, [0..64, 0..64, 64..128, 64..128]);
        // Six units of 256 columns.
        assert_eq!(four.iter().map(|split| split.config.feed_forward).collect::<Vec<_>>(), [256, 512, 256, 512]);
        let vocabulary: Vec<_> = two.iter().map(|split| split.vocabulary.clone()).collect();
        assert_eq!(vocabulary, [0..1024, 1024..2000]);
    }

    #[test]
    fn feed_forward_is_cut_at_blocks_of_the_down_matrix() {
        // 896 columns are no whole number of 256: Q8_0 has blocks of 32.
        let narrow = opened(&Spec { ff: 896, ..spec(GgmlType::Q8_0) });
        let widths: Vec<_> = splits(&narrow, 2).iter().map(|split| split.feed_forward.clone()).collect();
        assert_eq!(widths, [0..384, 384..896]);
        let of_blocks = opened(&Spec { ff: 768, ..spec(GgmlType::Q6K) });
        let widths: Vec<_> = splits(&of_blocks, 2).iter().map(|split| split.feed_forward.clone()).collect();
        assert_eq!(widths, [0..256, 256..768]);
    }

    #[test]
    fn part_of_a_block_is_stored_as_floats() {
        // Six heads of 64: three of them are 192 columns, no whole number of 256.
        let parts = opened(&Spec { heads: 12, kv: 4, ..spec(GgmlType::Q4K) });
        let tensor = parts.plan.get("blk.0.attn_output.weight").unwrap();
        let piece = splits(&parts, 2)[1].piece("blk.0.attn_output.weight", tensor);
        assert_eq!((piece.cols.clone(), piece.is_whole_blocks(tensor)), (384..768, false));
        let down = parts.plan.get("blk.0.ffn_down.weight").unwrap();
        assert!(splits(&parts, 2)[1].piece("blk.0.ffn_down.weight", down).is_whole_blocks(down));
    }

    #[test]
    fn refusal_names_the_reason_and_the_counts_that_work() {
        let parts = opened(&spec(GgmlType::BF16));
        let refused = |ranks| Split::new(&parts.config, &parts.plan, Share { rank: 0, ranks }).unwrap_err().to_string();
        assert!(refused(3).contains("8 heads and 2 key heads; it can be split among 2, 4"), "{}", refused(3));
        assert!(refused(9).contains("8 are the most"), "{}", refused(9));
        let narrow = opened(&Spec { heads: 3, kv: 3, ..spec(GgmlType::BF16) });
        let refused = Split::new(&narrow.config, &narrow.plan, Share { rank: 0, ranks: 2 }).unwrap_err().to_string();
        assert!(refused.contains("it can be split among 3"), "{refused}");
    }
}
