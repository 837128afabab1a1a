"""The queries as text; what they answer is tested against a real Prometheus."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.metric_preset import BUILT_IN_PRESETS, MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings, OptimizerPolicySpec
from inferscale_operator.metrics.presets import GATEWAY, SGLANG, TGI, VLLM, presets, wakes_from_zero
from inferscale_operator.metrics.queries import GATEWAY_QUERIES, Query, queries

MINE = {"name": "mine", "running": ["my_running"], "waiting": ["my_waiting"], "completions": ["my_done"]}
EVERY = [*presets(MetricsSettings()).values(), MetricPreset.model_validate(MINE)]


def texts(preset: MetricPreset = VLLM, **policy: object) -> dict[Query, str]:
    asked = queries(preset, MetricsSettings.model_validate(policy))
    return {query: question.expression for query, question in asked.items()}


def test_there_is_one_query_for_each_question_that_a_preset_has_series_for():
    assert list(texts(GATEWAY)) == list(Query)
    assert set(texts(VLLM)) == set(Query) - set(GATEWAY_QUERIES)
    assert set(texts(SGLANG)) == set(Query) - set(GATEWAY_QUERIES)
    missing = {Query.CACHED_SHARE, Query.TTFT_SUM, Query.TTFT_COUNT, *GATEWAY_QUERIES}
    assert set(texts(TGI)) == set(Query) - missing
    assert len(texts(MetricPreset.model_validate(MINE))) == 6
    assert (len(texts(VLLM)), len(GATEWAY_QUERIES)) == (15, 4)


@pytest.mark.parametrize("preset", EVERY, ids=lambda preset: preset.name)
def test_every_query_answers_for_all_namespaces_at_once(preset):
    for query, promql in texts(preset).items():
        name = "target_model_name" if query in GATEWAY_QUERIES else "pod"
        assert re.search(rf"(sum|min) by \(namespace, {name}\)", promql)
        assert f'namespace!="",{name}!=""' in promql


def test_labels_and_window_are_those_of_the_policy():
    promql = texts(windowSeconds=300, namespaceLabel="kubernetes_ns", podLabel="instance")[Query.ARRIVALS]
    assert "sum by (kubernetes_ns, instance)" in promql
    assert "[300s]" in promql
    assert promql.count("[120s]") == 0


def test_a_preset_may_have_labels_and_matchers_of_its_own():
    own = {"namespaceLabel": "ns", "podLabel": "instance", "matchers": {"job": "mine", "cluster": "east"}}
    preset = MetricPreset.model_validate(MINE | own)
    asked = queries(preset, MetricsSettings(matchers={"cluster": "west", "az": "b"}))
    for question in asked.values():
        assert question.labels == ("ns", "instance")
        selector = '{ns!="",instance!="",az="b",cluster="east",job="mine"}'
        assert question.expression.count(selector) == len(re.findall(r"my_\w+", question.expression))


@pytest.mark.parametrize("preset", EVERY, ids=lambda preset: preset.name)
def test_matchers_of_the_policy_are_in_every_selection(preset):
    for promql in texts(preset, matchers={"cluster": "west", "az": "b"}).values():
        selections = re.findall(r"\{[^}]*\}", promql)
        assert selections
        assert all('az="b",cluster="west"' in selection for selection in selections)


def test_of_several_names_of_a_series_the_first_that_a_pod_has_is_taken():
    new, old = (
        f'sum by (namespace, pod) (rate({name}_sum{{namespace!="",pod!=""}}[120s]))'
        for name in ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")
    )
    assert texts()[Query.ITL_SUM] == f"({new} or {old})"


def test_a_matcher_cannot_leave_its_quotes():
    promql = texts(matchers={"cluster": 'a"} or x{b="\\\n'})[Query.SAMPLED]
    assert r'cluster="a\"} or x{b=\"\\\n"' in promql


@given(st.text(max_size=8))
@settings(deadline=None)
def test_what_is_between_a_matchers_quotes_reads_back_as_its_value(value):
    promql = texts(matchers={"cluster": value})[Query.SAMPLED]
    quoted = re.search(r'cluster="((?:[^"\\\n]|\\.)*)"}\)\)$', promql)
    assert quoted is not None
    unescaped = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), quoted[1])
    assert unescaped == value


# What a policy may say.


def test_the_built_in_presets_are_always_there_and_the_policys_beside_them():
    assert tuple(sorted(presets(MetricsSettings()))) == BUILT_IN_PRESETS
    assert set(presets(MetricsSettings.model_validate({"presets": [MINE]}))) == {"mine", *BUILT_IN_PRESETS}


@pytest.mark.parametrize(
    "name", ["", "rate(x[5m])", 'up{job="a"}', "0x", "a b", "x) or vector(1", "a\n", "é"]
)
@pytest.mark.parametrize("field", ["running", "entryRequests", "itl"])
def test_a_series_is_named_and_never_an_expression(field, name):
    with pytest.raises(ValidationError, match=field):
        MetricsSettings.model_validate({"presets": [MINE | {field: [name]}]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "vllm"}, "the name of a built-in one"),
        ({"podLabel": "namespace"}, "of a preset are the same label"),
        ({"podLabel": 'pod) (up) or sum by (a"'}, "podLabel"),
        ({"rankLabels": ["rank) or up"]}, "rankLabels"),
        ({"matchers": {'a="b",c': "d"}}, "a key of matchers is no Prometheus label name"),
        ({"entryMatchers": {"a b": "d"}}, "a key of entryMatchers is no Prometheus label name"),
        ({"running": []}, "running"),
        ({"gateway": {"requests": ["a"], "queue": ["b"], "modelLabel": "m)"}}, "modelLabel"),
        ({"gateway": {"requests": ["a"], "queue": ["b"], "matchers": {"m)": ""}}}, "a key of matchers"),
    ],
)
def test_a_preset_that_could_be_misunderstood_is_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        MetricsSettings.model_validate({"presets": [MINE | change]})


def test_two_presets_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="'mine' is listed twice"):
        MetricsSettings.model_validate({"presets": [MINE, MINE]})


@pytest.mark.parametrize(
    ("preset", "wakes"),
    [
        ("gateway", True),
        ("behind", True),
        ("vllm", False),
        ("sglang", False),
        ("mine", False),
        ("typo", False),
    ],
)
def test_only_a_preset_with_a_gateway_wakes_a_service_from_zero(preset, wakes):
    behind = MINE | {"name": "behind", "gateway": {"requests": ["a"], "queue": ["b"]}}
    policy = OptimizerPolicySpec.model_validate({"metrics": {"presets": [MINE, behind]}})
    spec = InferenceServiceSpec.model_validate(
        {"model": "m", "serviceClass": "c", "targetRef": {"name": "d"}, "metrics": {"preset": preset}}
    )
    assert wakes_from_zero(policy, spec) is wakes
