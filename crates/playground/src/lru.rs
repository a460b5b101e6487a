//! A small store of shared values that forgets the ones used longest ago.

use std::sync::{Arc, Mutex, PoisonError};

/// At most `most` values, by name; each is made once, also when several ask at the same time.
#[derive(Debug)]
pub(crate) struct Lru<T> {
    most: usize,
    slots: Mutex<Vec<(String, Slot<T>)>>,
}

type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

impl<T> Lru<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, slots: Mutex::new(Vec::new()) }
    }

    /// The value of `name`, which `make` makes if there is none.
    pub(crate) fn get<E>(&self, name: &str, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let slot = self.slot(name);
        let mut value = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        let made = Arc::new(make()?);
        *value = Some(made.clone());
        Ok(made)
    }

    fn slot(&self, name: &str) -> Slot<T> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let found = slots.iter().position(|(of, _)| of == name);
        let (name, slot) = found.map_or_else(|| (name.to_owned(), Slot::default()), |at| slots.remove(at));
        slots.push((name, slot.clone()));
        let spare = slots.len().saturating_sub(self.most);
        slots.drain(..spare);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_value_is_forgotten_and_errors_are_not_kept() {
        let store = Lru::new(2);
        let made = std::cell::Cell::new(0);
        let get = |name: &str| {
            let make = || {
                made.set(made.get() + 1);
                Ok::<_, ()>(name.to_owned())
            };
            (*store.get(name, make).unwrap()).clone()
        };
        assert_eq!(["a", "b", "a", "c", "a"].map(get), ["a", "b", "a", "c", "a"]);
        assert_eq!(made.get(), 3);
        get("b");
        assert_eq!(made.get(), 4, "b was used longest ago");
        assert_eq!(store.get("d", || Err::<String, _>(7)), Err(7));
        assert_eq!(*store.get("d", || Ok::<_, ()>("e".to_owned())).unwrap(), "e");
    }
}
