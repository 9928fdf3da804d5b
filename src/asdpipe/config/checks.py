"""Rules of the configuration that involve several sections."""

from itertools import chain

from asdpipe.config.data import UnionDataset
from asdpipe.config.schema import RESERVED, Config, unknown
from asdpipe.config.training import FineTuning
from asdpipe.errors import UserError


def check(config: Config) -> None:
    """Check rules that involve several sections.

    Raises:
        UserError: a name that is not defined, or clips too short for the network.
    """
    check_unions(config)
    config.resolve_dataset(config.dataset)
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
        check_reduction(config, name)
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
        check_method(config, config.dataset, name)


def check_method(config: Config, dataset: str, name: str) -> None:
    """Check that a method can be trained, or used as it is, on a data set.

    Raises:
        UserError: names the key and what to change.
    """
    check_latent(config, name)
    check_pretrained(config, name)
    check_circle(config, name)
    method, known = config.resolve_method(name), config.resolve_dataset(dataset)
    if problem := method.network.misfit(known.num_samples):
        message = f"datasets.{dataset}.clip_seconds = {known.clip_seconds:g} s, method {name}: {problem}"
        raise UserError(message)
    if method.draws_first and known.pool is None:
        message = f"external.first_stage: random needs an external pool: set datasets.{dataset}.pool"
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


def check_reduction(config: Config, name: str) -> None:
    """Refuse a sum over the clips of a batch whose parts are averaged."""
    method = config.resolve_method(name)
    training, triplet = method.training, method.triplet
    if not isinstance(training, FineTuning) or not method.uses_classes or not triplet.enabled:
        return
    if triplet.reduction == "sum" and training.micro_batch < training.batch_size:
        message = f"methods.{name}.triplet.reduction: sum needs whole batches, but training.micro_batch"
        raise UserError(
            f"{message} ({training.micro_batch}) is less than batch_size ({training.batch_size}); take mean"
        )


def check_latent(config: Config, name: str) -> None:
    """Refuse Top-M labels whose latent space is that of no method."""
    candidates = config.resolve_method(name).candidates
    if candidates is None or candidates.latent is None:
        return
    key = f"methods.{name}.labels.candidates.latent"
    if candidates.latent not in config.methods:
        raise UserError(f"{key}: " + unknown("method", candidates.latent, config.methods))
    if fusion := config.resolve_method(candidates.latent).fusion:
        message = f"{candidates.latent} fuses scores and has no embeddings; name one of {', '.join(fusion.methods)}"
        raise UserError(f"{key}: {message}")


def check_pretrained(config: Config, name: str) -> None:
    """Check that a method's pre-trained weights are those of a checkpoint or a trained method, and fit its network.

    Raises:
        UserError: they are not; names the key and the known names.
    """
    network, key = config.resolve_method(name).network, f"methods.{name}.network.weights"
    weights = network.pretrained
    if weights is None:
        return
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


def check_circle(config: Config, name: str, above: tuple[str, ...] = ()) -> None:
    """Refuse a method whose training needs its own result.

    Args:
        above: the methods that need it, each the next one.
    """
    if name in above:
        circle = " -> ".join([*above[above.index(name) :], name])
        message = f"methods.{name}: its training would need its own result, in a circle: {circle}; change one of"
        raise UserError(f"{message} network.weights, labels.candidates.latent and start_from")
    method = config.resolve_method(name)
    latent = None if method.candidates is None else method.candidates.latent
    for needed in (method.network.pretrained, latent, method.start_from):
        if needed in config.methods and needed not in config.checkpoints:
            check_circle(config, needed, (*above, name))


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
