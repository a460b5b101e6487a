"""Reads the output of `examples/events.rs` with TensorBoard's own reader. Needs `pip install tensorboard`.

    cargo run -p surprisal-formats --example events -- FOLDER && python crates/formats/tests/read_events.py FOLDER
"""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
train = events.Scalars("loss/train")
assert [e.step for e in train] == list(range(300)), [e.step for e in train]
for e in train:
    # Steps 5 to 9 of the interrupted run are gone: the resumed run's values stand.
    expected = 4 / (e.step + 1) if e.step < 5 else 1000 + e.step
    assert abs(e.value - expected) < 1e-6 * expected, e
    assert e.wall_time == (1_700_000_000 if e.step < 5 else 1_700_000_100) + e.step, e
other = events.Scalars("a tag of another size")
assert [e.step for e in other] == list(range(5)) and all(e.value < 0 for e in other)
print(f"{len(train) + len(other)} scalars read back")
