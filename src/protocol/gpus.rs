//! Which GPUs a model runs on.

use std::fmt::{self, Display, Formatter};

/// The most GPUs that one model is spread over.
pub const MOST_GPUS: usize = 8;

/// An ordered list of 1 to [`MOST_GPUS`] different GPUs, by CUDA's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuList {
    /// The numbers, then zeros.
    ordinals: [u8; MOST_GPUS],
    length: u8,
}

impl GpuList {
    /// One GPU. Numbers above 255, which no machine has, become 255.
    pub fn one(ordinal: usize) -> Self {
        let mut ordinals = [0; MOST_GPUS];
        ordinals[0] = u8::try_from(ordinal).unwrap_or(u8::MAX);
        Self { ordinals, length: 1 }
    }

    /// These GPUs in this order; `None` if there are none, more than [`MOST_GPUS`], repetitions, or numbers above 255.
    pub fn new(wanted: &[usize]) -> Option<Self> {
        let mut list = Self { ordinals: [0; MOST_GPUS], length: 0 };
        for ordinal in wanted {
            if list.iter().any(|other| other == *ordinal) {
                return None;
            }
            let place = list.len();
            *list.ordinals.get_mut(place)? = u8::try_from(*ordinal).ok()?;
            list.length += 1;
        }
        (list.length > 0).then_some(list)
    }

    /// The first GPU.
    pub fn first(self) -> usize {
        usize::from(self.ordinals[0])
    }

    /// The GPUs in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.ordinals.into_iter().take(self.len()).map(usize::from)
    }

    /// The number of GPUs, at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        usize::from(self.length)
    }
}

/// `cuda:0,1`, as `--device` takes it.
impl Display for GpuList {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (place, ordinal) in self.iter().enumerate() {
            write!(f, "{}{ordinal}", if place == 0 { "cuda:" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_list_keeps_its_order_and_holds_each_gpu_once() {
        let list = GpuList::new(&[1, 0]).unwrap();
        assert_eq!((list.first(), list.len(), list.to_string().as_str()), (1, 2, "cuda:1,0"));
        assert_eq!(list.iter().collect::<Vec<_>>(), [1, 0]);
        assert_ne!(list, GpuList::new(&[0, 1]).unwrap());
        assert_eq!(GpuList::new(&[3]), Some(GpuList::one(3)));
        let full: Vec<_> = (0..MOST_GPUS).collect();
        assert_eq!(GpuList::new(&full).unwrap().iter().collect::<Vec<_>>(), full);
        let over: Vec<_> = (0..=MOST_GPUS).collect();
        for wrong in [&[][..], &[0, 0], &[2, 1, 2], &[256], &over] {
            assert_eq!(GpuList::new(wrong), None, "{wrong:?}");
        }
        assert_eq!(GpuList::one(usize::MAX).first(), 255);
    }
}
