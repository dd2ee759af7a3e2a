//! How many attempts may be under way at one door: waiting for their turn, or for their answer to be held back.
//!
//! A held-back answer costs memory for up to some seconds, so attempts under way are bounded like the queue is: by
//! prefix first. A stranger who fills theirs keeps nobody else out (A113).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::address::AddressPrefix;

/// How many attempts of one prefix may be under way.
const OF_ONE: usize = 256;
/// How many of everybody, before only those get a slot who have none; and how many of these.
const HALF: usize = 16_384;

/// The slots of one door.
#[derive(Debug)]
pub struct AttemptSlots {
    of_one: usize,
    half: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_prefix: HashMap<AddressPrefix, usize>,
    all: usize,
}

/// A slot. It is given back on drop.
#[derive(Debug)]
pub struct Slot<'a> {
    slots: &'a AttemptSlots,
    prefix: AddressPrefix,
}

impl AttemptSlots {
    /// All of them free.
    pub fn new() -> AttemptSlots {
        AttemptSlots::with_sizes(OF_ONE, HALF)
    }

    fn with_sizes(of_one: usize, half: usize) -> AttemptSlots {
        AttemptSlots { of_one, half, taken: Mutex::default() }
    }

    /// A slot for an attempt from `prefix`, if there is one for it.
    pub fn enter(&self, prefix: AddressPrefix) -> Option<Slot<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_prefix.get(&prefix).copied().unwrap_or(0);
        let free =
            if own == 0 { taken.all < self.half.saturating_mul(2) } else { own < self.of_one && taken.all < self.half };
        if !free {
            return None;
        }
        taken.by_prefix.insert(prefix, own + 1);
        taken.all += 1;
        Some(Slot { slots: self, prefix })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        match taken.by_prefix.get_mut(&self.prefix) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                taken.by_prefix.remove(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::AttemptSlots;
    use crate::address::AddressPrefix;

    fn prefix(n: u8) -> AddressPrefix {
        AddressPrefix::V4(Ipv4Addr::new(192, 0, 2, n))
    }

    #[test]
    fn a113_a_prefix_has_its_own_slots_and_gives_them_back() {
        let slots = AttemptSlots::new();
        let taken: Vec<_> = std::iter::from_fn(|| slots.enter(prefix(1))).collect();
        assert_eq!(taken.len(), super::OF_ONE);
        let other = slots.enter(prefix(2));
        assert!(other.is_some() && slots.enter(AddressPrefix::Unknown).is_some());
        drop(taken);
        assert!(slots.enter(prefix(1)).is_some());
        drop(other);
        assert_eq!(slots.taken.lock().unwrap().all, 0);
        assert!(slots.taken.lock().unwrap().by_prefix.is_empty());
    }

    #[test]
    fn a113_when_most_are_taken_only_who_has_none_gets_one() {
        let slots = AttemptSlots::with_sizes(3, 4);
        let enter = |n| slots.enter(prefix(n));
        let mut taken = vec![enter(1), enter(1), enter(2), enter(2)];
        assert!(enter(1).is_none() && enter(2).is_none());
        taken.extend([3, 4, 5, 6].map(enter));
        assert!(taken.iter().all(Option::is_some));
        assert!(enter(7).is_none(), "all are bounded");
    }
}
