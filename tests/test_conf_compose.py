"""Every configuration file composes, and what it names can be built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dix.cli.config import CONF, composed, files, options, together
from dix.cli.construct import build, job_of, many
from dix.cli.options import GROUPS
from dix.explainer import Explainer
from dix.metrics.api import Metric

EMBEDDED = ("efficientnet_lite0", "lenet5")


@pytest.mark.parametrize("model", options("model"))
def test_every_model_composes(model: str) -> None:
    config = composed([f"model={model}"])
    assert config.model.name == model


@pytest.mark.parametrize("model", options("model"))
def test_every_model_that_can_be_random_builds_with_three_layers(model: str) -> None:
    config = composed([f"model={model}"])
    if "weights" in config.model:
        config.model.weights = "random"
    classifier = build(config.model, "model", "model")
    assert classifier.name == model
    assert {"last", "second", "third"} <= set(classifier.layers)


@pytest.mark.parametrize("method", options("method"))
def test_every_method_builds_and_has_a_label(method: str) -> None:
    config = composed([f"method=[{method}]"])
    explainer = many(config.method, "method")[method]
    assert isinstance(explainer, Explainer)
    assert explainer.label
    hash(explainer)


@pytest.mark.parametrize("protocol", options("protocol"))
def test_every_metric_builds_under_every_protocol(protocol: str) -> None:
    config = composed([f"metric=[{','.join(options('metric'))}]", f"protocol={protocol}"])
    built = many(config.metric, "metric")
    assert set(built) == set(options("metric"))
    for metric in built.values():
        assert isinstance(metric, Metric)
        hash(metric.probe)


@pytest.mark.parametrize("protocol", [name for name in options("protocol") if name.startswith("thesis_")])
def test_a_single_change_of_the_thesis_is_one(protocol: str) -> None:
    whole, changed = (composed([f"protocol={name}"]).protocol for name in ("thesis", protocol))
    assert changed.name == protocol
    assert sum(whole[key] != changed[key] for key in whole if key != "name") == 1


def test_a_list_of_protocols_is_one_configuration_for_each() -> None:
    words = ["protocol=[thesis,ltx_label,bee]", "metric=[neg]", "protocol.seed=7"]
    configs = together(words)
    assert [config.protocol.name for config in configs] == ["thesis", "ltx_label", "bee"]
    assert [config.metric.neg.fill for config in configs] == ["black", "black", "model_mean"]
    assert {config.protocol.seed for config in configs} == {7}
    assert [config.protocol.name for config in together(["protocol=ltx"])] == ["ltx"]
    assert [config.protocol.name for config in together(["protocol=[ltx]"])] == ["ltx"]


def test_a_list_of_protocols_is_refused_where_one_is_needed_and_where_names_are_equal() -> None:
    with pytest.raises(ValueError, match="protocol: expected one, got thesis, bee"):
        composed(["protocol=[thesis,bee]"])
    with pytest.raises(ValueError, match=r"protocol\.name: expected one for each protocol"):
        together(["protocol=[thesis,bee]", "protocol.name=mine"])


@pytest.mark.parametrize("dataset", options("dataset"))
def test_every_data_set_composes(dataset: str) -> None:
    assert "_target_" in composed([f"dataset={dataset}"]).dataset


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    config = composed([f"experiment={experiment}"], several=True)
    assert config.run.name


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_says_in_its_first_line_what_it_is(group: str) -> None:
    """`dix list` prints it."""
    for name, path in files(group).items():
        lines = [line for line in path.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# "), name
        assert len(lines[0]) > 20, name


def test_files_name_the_node_they_define() -> None:
    for group in ("method", "metric"):
        for path in (CONF / group).glob("*.yaml"):
            assert list(OmegaConf.load(path)) == [path.stem], path


def test_equal_grids_make_equal_probes() -> None:
    config = composed(["metric=[neg,pos,ins,deletion]"])
    metrics = many(config.metric, "metric")
    assert metrics["neg"].probe == metrics["ins"].probe
    assert metrics["pos"].probe == metrics["deletion"].probe
    assert len({m.probe for m in metrics.values()}) == 2


def test_several_of_a_group_and_a_changed_hyper_parameter() -> None:
    config = composed(["method=[dix1,dix3]", "method.dix3.path.steps=5"] if _has_path() else ["method=[dix1,dix3]"])
    assert list(config.method) == ["dix1", "dix3"]


def _has_path() -> bool:
    return "path" in OmegaConf.load(Path(CONF) / "method" / "dix3.yaml")["dix3"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=resnt101", "no model called 'resnt101'; did you mean 'resnet101'?"),
        ("method=[gc,dx3]", "no method called 'dx3'; did you mean 'dix3'?"),
        ("metrics=[neg]", "no group or setting called 'metrics'; did you mean 'metric'?"),
        ("run.batchsize=4", "no group or setting called 'run.batchsize'; did you mean 'run.batch_size'?"),
        (
            "protocol.fracions=[0.5]",
            "no group or setting called 'protocol.fracions'; did you mean 'protocol.fractions'?",
        ),
        ("model.weigths=random", "no group or setting called 'model.weigths'; did you mean 'model.weights'?"),
        ("run.batch_size=many", "run.batch_size"),
        ("experiment=dem", "no experiment called 'dem'; did you mean 'demo'?"),
        ("run.batch_size", "an override is key=value"),
    ],
)
def test_typos_are_named_with_the_nearest_name(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        composed([override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "resize"),
    [
        (["model=lenet5", "dataset=mnist"], "direct"),
        (["model=lenet5", "dataset=mnist", "protocol.preprocess=checkpoint"], "pad"),
        (["model=efficientnet_lite0", "protocol.preprocess=checkpoint"], "crop"),
    ],
)
def test_the_protocol_says_whose_preprocessing_is_used(words: list[str], resize: str) -> None:
    assert job_of(composed([*words, "method=[gc]", "metric=[neg]"])).preprocess.resize == resize
