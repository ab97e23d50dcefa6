"""Programs that must not outlive the worker of Ray that started them."""


def bound(command: list[str]) -> list[str]:
    """The command, ended by the kernel when whoever runs it has died, in whatever way: a worker that
    is killed ends nothing by itself, and its node may live on and get the next one."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]
