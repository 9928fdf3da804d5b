"""Several data sets as one: what their clips and machine types are called."""


def machine_name(dataset: str, machine: str, *, joined: bool) -> str:
    """Return what a machine type of one of the data sets is called.

    Args:
        joined: machine types of the same name are one.
    """
    return machine if joined else f"{dataset}_{machine}"
