//! Stops a run from another thread; its checkpoint opens as a model, and the run goes on from
//! there.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use surprisal_engine::platform::threads::Pool;
use surprisal_engine::train::{Request, own_settings, train};
use surprisal_engine::{Context, Control, Event, ExitKind, Result, RunId, Silent, config, models};

fn main() -> Result<()> {
    let text =
        "[model]\nkind = \"bigram\"\n[train]\nsteps = 2000\n[eval]\nevery_epochs = 0\n[sample]\ntokens = 0\n";
    let mut settings = config::parse("the example's settings", text, &[])?;
    config::check(&mut settings)?;
    let pool = Pool::new(2)?;
    let folder = std::env::temp_dir().join(format!("surprisal-stopped-{}", std::process::id()));
    let control = Control::new();
    let (steps, made) = std::sync::mpsc::sync_channel(0);
    let from_outside = control.clone();
    let watcher = std::thread::spawn(move || {
        // Whoever watches the run decides: here, once it has made 50 steps.
        while made.recv().is_ok_and(|step| step < 50) {}
        from_outside.stop();
        while made.recv().is_ok() {}
    });
    let events = move |_: RunId, event: &Event| {
        if let Event::Step(step) = event {
            // A watcher that has gone away hears no more.
            let _ = steps.send(step.step);
        }
        Ok(())
    };
    let request = Request { settings, out: Some(folder.clone()), ..Request::default() };
    match train(request, &Context::new(&pool, &events, &control)) {
        Err(stopped) if stopped.kind == ExitKind::Stopped => println!("{stopped}"),
        other => println!("it was to be stopped: {other:?}"),
    }
    drop(events);
    drop(watcher.join());
    let again = Control::new();
    let ctx = Context::new(&pool, &Silent, &again);
    println!("it opens: {}", models::load(&folder, &ctx)?.kind);
    let request = Request {
        settings: own_settings(&folder, &[])?,
        out: Some(folder.clone()),
        resume: true,
        ..Request::default()
    };
    println!("and goes on, to {} steps", train(request, &ctx)?.steps);
    drop(std::fs::remove_dir_all(folder));
    Ok(())
}
