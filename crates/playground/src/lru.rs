//! A small store of shared values that forgets the ones used longest ago.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Values of at most `most` bytes together, by name; each is made once, also when several ask at
/// the same time.
#[derive(Debug)]
pub(crate) struct Lru<T> {
    most: usize,
    size: fn(&T) -> usize,
    slots: Mutex<Vec<Named<T>>>,
}

type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

#[derive(Debug)]
struct Named<T> {
    name: String,
    slot: Slot<T>,
    bytes: usize,
}

impl<T> Lru<T> {
    /// A store whose values have about `size` bytes.
    pub(crate) fn new(most: usize, size: fn(&T) -> usize) -> Self {
        Self { most, size, slots: Mutex::default() }
    }

    /// The value of `name`, which `make` makes if there is none.
    pub(crate) fn get<E>(&self, name: &str, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let slot = self.slot(name);
        let mut value = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        match make() {
            Ok(made) => {
                let made = Arc::new(made);
                *value = Some(made.clone());
                self.keep(name, (self.size)(&made).max(1));
                Ok(made)
            }
            Err(error) => {
                self.slots().retain(|held| held.name != name);
                Err(error)
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Named<T>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, name: &str) -> Slot<T> {
        let mut slots = self.slots();
        let found = slots.iter().position(|held| held.name == name);
        let new = || Named { name: name.to_owned(), slot: Slot::default(), bytes: 0 };
        let held = found.map_or_else(new, |at| slots.remove(at));
        let slot = held.slot.clone();
        slots.push(held);
        slot
    }

    /// Notes the size of a value, and forgets others as long as all have too many bytes.
    fn keep(&self, name: &str, bytes: usize) {
        let mut slots = self.slots();
        if let Some(held) = slots.iter_mut().find(|held| held.name == name) {
            held.bytes = bytes;
        }
        let mut spare = slots.iter().map(|held| held.bytes).sum::<usize>().saturating_sub(self.most);
        slots.retain(|held| {
            let stays = spare == 0 || held.name == name || held.bytes == 0;
            if !stays {
                spare = spare.saturating_sub(held.bytes);
            }
            stays
        });
    }
}

/// About the bytes of a JSON value in memory.
pub(crate) fn of_json(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Array(items) => items.iter().map(of_json).sum(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| 64 + name.len() + of_json(value)).sum()
            }
            Value::String(text) => text.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_value_is_forgotten_and_errors_are_not_kept() {
        let store = Lru::new(2, String::len);
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
        assert_eq!(store.slots().len(), 2, "what could not be made leaves no name");
        assert_eq!(*store.get("d", || Ok::<_, ()>("e".to_owned())).unwrap(), "e");
    }

    #[test]
    fn many_small_values_or_one_large_one_are_held() {
        let store = Lru::new(10, String::len);
        let get =
            |name: &str, bytes: usize| store.get(name, || Ok::<_, ()>("x".repeat(bytes))).unwrap().len();
        (0..10).for_each(|i| assert_eq!(get(&i.to_string(), 1), 1));
        assert_eq!(store.slots().len(), 10);
        assert_eq!(get("large", 12), 12);
        assert_eq!(get("large", 0), 12);
        assert_eq!(store.slots().len(), 1, "the newest stays");
        assert_eq!(get("small", 4), 4);
        assert_eq!(store.slots().len(), 1);
        assert!(of_json(&serde_json::json!({ "q": vec![0.5; 100] })) > 100 * size_of::<Value>());
    }
}
