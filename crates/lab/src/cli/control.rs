//! Commands on a lab that is up.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use terminal::Table;

use super::{
    CutArgs, DownArgs, HostArgs, LogsArgs, OutputArgs, PlaceArgs, RunArgs, ServiceArgs, StatusArgs, display,
};
use crate::host;
use crate::lab::{self, Lab};
use crate::registry;
use crate::state::LabState;

pub(super) fn down(args: DownArgs) -> Result<ExitCode> {
    if !args.all {
        let dir =
            std::path::absolute(args.place.dir()?).context("cannot resolve the directory of the lab")?;
        let name = lab::stop_from_outside(&dir)?;
        terminal::note(&format!(
            "lab {name} is down; its data and logs are in {}",
            dir.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for dir in registry::all()? {
        // One lab that cannot be stopped must not keep the others up.
        match lab::stop_from_outside(&dir).and_then(|name| registry::forget(&dir).map(|()| name)) {
            Ok(name) => terminal::note(&format!(
                "lab {name} is down; its data and logs are in {}",
                dir.display()
            )),
            Err(error) => {
                display::error(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    for line in lab::clear_abandoned()? {
        display::say(&line);
    }
    Ok(code)
}

pub(super) fn status(args: StatusArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.place.dir()?)?;
    let state = lab.state()?;
    let mut all_run = true;
    let mut table = Table::new(["HOST", "ADDRESS", "SERVICE", "STATE", "PID", "READY"]);
    let mut services = vec![];
    for host in &state.hosts {
        for service in &host.services {
            let condition = lab.host(&host.name)?.condition(&service.name)?;
            all_run &= condition.is_ready();
            let pid = service.pid.filter(|_| condition.runs());
            table.row([
                host.name.clone(),
                host.address.to_string(),
                service.name.clone(),
                condition.name().to_owned(),
                pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
                service.ready.clone(),
            ]);
            services.push(serde_json::json!({
                "host": host.name, "address": host.address, "service": service.name, "state": condition.name(),
                "pid": pid, "ready": service.ready, "log": service.log,
            }));
        }
    }
    if args.output.format.is_json() {
        terminal::print_json(&serde_json::json!({
            "name": state.name, "form": state.form, "dir": lab.dir(), "owner": state.owner, "services": services,
        }))?;
    } else {
        let held = match state.owner {
            Some(owner) => format!("held by process {}", owner.pid),
            None => "detached".into(),
        };
        let (form, dir) = (state.form.name(), lab.dir().display());
        terminal::out(&format!("lab {} ({form}, {held}) in {dir}\n\n", state.name));
        table.print();
    }
    Ok(if all_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(super) fn list(output: OutputArgs) -> Result<ExitCode> {
    let mut table = Table::new(["NAME", "FORM", "STATE", "HOSTS", "DIR"]).numeric(&["HOSTS"]);
    let mut labs = vec![];
    for dir in registry::all()? {
        let Some(state) = LabState::read(&dir)? else {
            registry::forget(&dir)?;
            continue;
        };
        let condition = match state.owner {
            Some(owner) if !owner.is_alive() => "crashed",
            None if state.leftovers().next().is_none() => "stopped",
            _ => "up",
        };
        table.row([
            state.name.clone(),
            state.form.name().into(),
            condition.into(),
            state.hosts.len().to_string(),
            dir.display().to_string(),
        ]);
        labs.push(serde_json::json!({
            "name": state.name, "form": state.form, "state": condition, "hosts": state.hosts.len(), "dir": dir,
        }));
    }
    if output.format.is_json() {
        terminal::print_json(&labs)?;
    } else {
        table.print();
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn logs(args: LogsArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.service.place.dir()?)?;
    pass_through(
        lab.host(&args.service.host)?
            .logs_command(&args.service.service, args.follow)?,
    )
}

pub(super) fn run(args: RunArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.place.dir()?)?;
    let host = lab.host(&args.host)?;
    let (program, rest) = args.words.split_first().context("no command given")?;
    let command = if rest.is_empty() {
        host.command("sh", &["-c".into(), program.clone()])?
    } else {
        host.command(program, rest)?
    };
    pass_through(command)
}

/// Runs a command with our own input and output, and takes over its exit code.
fn pass_through(mut command: Command) -> Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    Ok(ExitCode::from(host::exit_code(status) as u8))
}

pub(super) fn start(args: ServiceArgs) -> Result<ExitCode> {
    Lab::open(&args.place.dir()?)?
        .host(&args.host)?
        .start(&args.service)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn stop(args: ServiceArgs) -> Result<ExitCode> {
    Lab::open(&args.place.dir()?)?
        .host(&args.host)?
        .stop(&args.service)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn kill(args: ServiceArgs) -> Result<ExitCode> {
    Lab::open(&args.place.dir()?)?
        .host(&args.host)?
        .kill(&args.service)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn kill_power(args: HostArgs) -> Result<ExitCode> {
    Lab::open(&args.place.dir()?)?.host(&args.host)?.kill_power()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn boot(args: HostArgs) -> Result<ExitCode> {
    Lab::open(&args.place.dir()?)?.host(&args.host)?.boot()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn cut(args: CutArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.place.dir()?)?;
    if args.one_way {
        lab.cut_one_way(&args.a, &args.b)?;
    } else {
        lab.cut(&args.a, &args.b)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn heal(args: PlaceArgs) -> Result<ExitCode> {
    Lab::open(&args.dir()?)?.heal()?;
    Ok(ExitCode::SUCCESS)
}
