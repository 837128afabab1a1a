"""The queries as text; what they answer is tested against a real Prometheus."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.queries import Query, queries


def test_there_is_one_query_for_each_question_and_no_more_than_fourteen():
    assert list(queries(MetricsSettings())) == list(Query)
    assert len(Query) <= 14


def test_every_query_answers_by_pod_for_all_namespaces_at_once():
    for promql in queries(MetricsSettings()).values():
        assert re.search(r"(sum|min) by \(namespace, pod\)", promql)
        assert 'namespace!="",pod!=""' in promql


def test_labels_and_window_are_those_of_the_policy():
    policy = MetricsSettings(window_seconds=300, namespace_label="kubernetes_ns", pod_label="instance")
    promql = queries(policy)[Query.ARRIVALS]
    assert "sum by (kubernetes_ns, instance)" in promql
    assert "[300s]" in promql
    assert promql.count("[120s]") == 0


def test_matchers_are_in_every_selection():
    for promql in queries(MetricsSettings(matchers={"cluster": "west", "az": "b"})).values():
        assert promql.count('az="b",cluster="west"}') == promql.count("vllm:")


def test_a_matcher_cannot_leave_its_quotes():
    promql = queries(MetricsSettings(matchers={"cluster": 'a"} or x{b="\\\n'}))[Query.SAMPLED]
    assert r'cluster="a\"} or x{b=\"\\\n"' in promql


@given(st.text(max_size=8))
@settings(deadline=None)
def test_what_is_between_a_matchers_quotes_reads_back_as_its_value(value):
    promql = queries(MetricsSettings(matchers={"cluster": value}))[Query.SAMPLED]
    quoted = re.search(r'cluster="((?:[^"\\\n]|\\.)*)"}\)\)$', promql)
    assert quoted is not None
    unescaped = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), quoted[1])
    assert unescaped == value
