"""Rules of the configuration that involve several sections."""

from itertools import chain

from asdpipe.config.data import UnionDataset
from asdpipe.config.schema import RESERVED, Config, unknown
from asdpipe.errors import UserError


def check(config: Config) -> None:
    """Check rules that involve several sections.

    Raises:
        UserError: a name that is not defined, or clips too short for the network.
    """
    check_unions(config)
    dataset = config.resolve_dataset(config.dataset)
    for name, each in config.datasets.items():
        if RESERVED.fullmatch(name):
            raise UserError(f"datasets.{name}: results/{name} holds other results; choose another name")
        if each.pool is not None and each.pool not in config.pools:
            raise UserError(f"datasets.{name}.pool: " + unknown("pool", each.pool, config.pools))
    for name in config.methods:
        config.lineage(name)
    for name in config.methods:
        check_start(config, name)
        check_loss(config, name)
        check_fusion(config, name)
    check_switches(config)
    for name in config.tables.datasets or ():
        if name not in config.datasets:
            raise UserError("tables.datasets: " + unknown("data set", name, config.datasets))
    for name in config.tables.methods or ():
        if name not in config.methods:
            raise UserError("tables.methods: " + unknown("method", name, config.methods))
    used = [config.fused(name) for name in (config.method, config.yardstick) if name is not None]
    for name in chain.from_iterable(used):
        resolved = config.resolve_method(name)
        check_pretrained(config, name)
        check_latent(config, name)
        if problem := resolved.network.misfit(dataset.num_samples):
            message = f"datasets.{config.dataset}.clip_seconds = {dataset.clip_seconds:g} s, method {name}: {problem}"
            raise UserError(message)
        if resolved.draws_first and dataset.pool is None:
            message = f"external.first_stage: random needs an external pool: set datasets.{config.dataset}.pool"
            raise UserError(message)


def check_unions(config: Config) -> None:
    """Refuse unions of unknown data sets or of other unions."""
    for name, union in config.datasets.items():
        if not isinstance(union, UnionDataset):
            continue
        for member in union.datasets:
            if member not in config.datasets:
                raise UserError(f"datasets.{name}.datasets: " + unknown("data set", member, config.datasets))
            if isinstance(config.datasets[member], UnionDataset):
                raise UserError(f"datasets.{name}.datasets: {member} is a union itself; name its data sets")
        if others := sorted(set(union.members("test")) - set(union.datasets)):
            raise UserError(f"datasets.{name}.tested: {', '.join(others)} is none of datasets.{name}.datasets")


def check_start(config: Config, name: str) -> None:
    """Refuse to start from an unknown method, or from one that has no stage 1 of its own."""
    method = config.resolve_method(name)
    start = method.start_from
    if start is None:
        return
    if start not in config.methods:
        raise UserError(f"methods.{name}.start_from: " + unknown("method", start, config.methods))
    other = config.resolve_method(start)
    if other.start_from is not None or start == name:
        message = f"methods.{name}.start_from: {start} has no stage 1 of its own; name a method without start_from"
        raise UserError(message)
    if not (method.uses_classes and other.uses_classes):
        raise UserError(f"methods.{name}.start_from: only trainings on clips have stages; {start} has none")


def check_loss(config: Config, name: str) -> None:
    """Refuse SpecAugment and reconstruction for a network that has no spectrogram to mask or predict."""
    method = config.resolve_method(name)
    if "loss" not in method.training.sections:
        return
    if method.loss.augments and not method.network.takes_augment:
        message = f"methods.{name}.loss.spec_augment: network {method.network.kind} has no spectrogram to mask"
        raise UserError(f"{message}; set it to false or choose another network")
    if method.loss.reconstructs and not method.network.reconstructs:
        message = f"methods.{name}.loss: network {method.network.kind} does not reconstruct its input"
        raise UserError(f"{message}; choose another loss or network (network.kind: masked_audio_mae)")


def check_latent(config: Config, name: str) -> None:
    """Refuse Top-M labels whose latent space is that of no method."""
    candidates = config.resolve_method(name).candidates
    latent = None if candidates is None else candidates.latent
    if latent is not None and latent not in config.methods:
        raise UserError(f"methods.{name}.labels.candidates.latent: " + unknown("method", latent, config.methods))
    if latent == name:
        message = f"methods.{name}.labels.candidates.latent: {name} would need its own labels to be trained"
        raise UserError(f"{message}; name another method, such as one without training")


def check_pretrained(config: Config, name: str) -> None:
    """Check that a method's pre-trained weights are those of a checkpoint or a trained method, and fit its network.

    Raises:
        UserError: they are not; names the key and the known names.
    """
    line = [name]
    while (weights := config.resolve_method(line[-1]).network.pretrained) is not None:
        key, network = f"methods.{line[-1]}.network.weights", config.resolve_method(line[-1]).network
        if weights in config.checkpoints:
            mismatch = network.mismatch(config.checkpoints[weights].layout, {})
        elif weights not in config.methods:
            known = ", ".join(sorted(config.checkpoints))
            message = f"{key}: there is no checkpoint and no method {weights!r}; known checkpoints: {known}"
            raise UserError(f"{message}; weights may also be those of a method that pre-trains, or `random`")
        elif not (other := config.resolve_method(weights)).training.trains:
            raise UserError(f"{key}: {weights} is not trained (training: {other.training.kind}): it has no weights")
        else:
            mismatch = network.mismatch(other.network.kind, other.network.arguments())
        if mismatch:
            raise UserError(f"{key}: {weights} cannot be used: {mismatch}")
        if weights in config.checkpoints:
            return
        if weights in line:
            raise UserError(f"{key}: weights are taken in a circle: {' -> '.join([*line, weights])}; change one")
        line.append(weights)


def check_fusion(config: Config, name: str) -> None:
    """Refuse a fusion of unknown methods, in a circle, or with settings of a network."""
    fusion = config.resolve_method(name).fusion
    if fusion is None:
        return
    for member in fusion.methods:
        if member not in config.methods:
            raise UserError(f"methods.{name}.fusion.methods: " + unknown("method", member, config.methods))
    config.fused(name)
    if unused := sorted(config.methods[name].keys() - {"parent", "fusion", "inference"}):
        message = f"methods.{name}.{unused[0]}: has no effect, as a fusion trains no network"
        raise UserError(f"{message}; set it in the methods that are fused ({', '.join(fusion.methods)})")


def check_switches(config: Config) -> None:
    """Refuse a top-level switch that has no effect because the method sets the opposite."""
    resolved = config.resolve_method(config.method)
    for section in ("triplet", "external", "pseudo_labels"):
        stated = getattr(config, section)
        if "enabled" in stated.model_fields_set and stated.enabled != getattr(resolved, section).enabled:
            value = str(stated.enabled).lower()
            message = f"{section}.enabled: {value} has no effect, as method {config.method} sets it the other way"
            way_out = f"choose another method, or set methods.{config.method}.{section}.enabled: {value}"
            raise UserError(f"{message}; {way_out}")
