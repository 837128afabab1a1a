"""A plan is carried out in an order that survives every failure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import kubernetes_objects as objects
from inferscale_operator.act import Outcome, act
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.inference_service import InferenceServiceStatus
from inferscale_operator.kube import kinds
from inferscale_operator.kube.client import ApiError, PatchType
from inferscale_operator.kube.definitions import Definitions
from inferscale_operator.kube.stores import Stores
from inferscale_operator.kube.writer import status_json
from inferscale_operator.plan import (
    DeploymentPatch,
    EventNote,
    EventType,
    ObjectRef,
    OrphanPlan,
    Plan,
    ServicePlan,
    StatusPlan,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOVE = InferenceAllocationStatus.model_validate({"reason": "Moving", "move": objects.move()})
DONE = InferenceAllocationStatus(reason="Optimal")
MARKED = {"finalizers": ["inferscale.dev/move"], "annotations": {"inferscale.dev/deployment": "chat"}}
SCALED = EventNote(EventType.NORMAL, "Scaled", "2 to 4")
FORBIDDEN = ApiError(403, "Forbidden", 'deployments.apps "chat" is forbidden: no')
CONFLICT = ApiError(409, "Conflict", "the object has been modified")
UNREACHABLE = ApiError(0, "Unreachable", "no answer")


def merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """What a JSON merge patch (RFC 7396) makes of an object."""
    result = dict(old)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = value
    return result


class Server:
    """An API server with InferenceAllocations that says yes, but for what it is told to refuse."""

    def __init__(self, **refusals: ApiError) -> None:
        self.refusals = refusals
        self.requests: list[tuple[str, str, Any]] = []
        self.allocations: dict[str, objects.Object] = {}
        self.unknown: set[str] = set()
        """Fields of a status that its definitions do not have."""

    def create(self, kind: kinds.Kind, _namespace: str | None, body: Any) -> Any:
        name = body["metadata"]["name"]
        self._answer(f"create {kind.name}", name, body)
        if kind is kinds.INFERENCE_ALLOCATION:
            self.allocations[name] = objects.allocation(name)
            return self.allocations[name]
        return body

    def patch(
        self, kind: kinds.Kind, _namespace: str | None, name: str, body: Any, _: PatchType, sub: str = ""
    ) -> Any:
        self._answer(f"patch {kind.name}{'/' + sub if sub else ''}", name, body)
        change = body
        if isinstance(body, list):
            change = {"status": {k: v for k, v in body[1]["value"].items() if k not in self.unknown}}
        if kind is not kinds.INFERENCE_ALLOCATION:
            return objects.service(name) | change
        raw = self.allocations[name]
        self.allocations[name] = raw | change if isinstance(body, list) else merged(raw, change)
        return self.allocations[name]

    def _answer(self, what: str, name: str, body: Any) -> None:
        self.requests.append((what, name, body))
        refusal = self.refusals.get(what.replace(" ", "_").replace("/", "_"))
        if refusal is not None:
            raise refusal

    @property
    def said(self) -> list[str]:
        return [what for what, _, _ in self.requests]


def ref(name: str = "chat") -> ObjectRef:
    return ObjectRef("InferenceService", name, f"uid-{name}", "team")


def patch(name: str = "chat") -> DeploymentPatch:
    return DeploymentPatch("team", name, "17", {"spec": {"replicas": 4}}, "replicas 2 -> 4")


def applied(
    status: str = "True", reason: str = "Patched", message: str = "", time: str = objects.TIME
) -> Any:
    return {
        "type": "Applied",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": time,
        "observedGeneration": 1,
    }


def service_plan(
    name: str = "chat",
    allocation: InferenceAllocationStatus = DONE,
    patch: DeploymentPatch | None = None,
    events: tuple[EventNote, ...] = (SCALED,),
) -> ServicePlan:
    status = InferenceServiceStatus.model_validate(
        {"replicas": 2, "conditions": [applied(), {**applied(), "type": "Ready"}]}
    )
    return ServicePlan(ref(name), allocation, StatusPlan(ref(name), status, events), patch)


def carry_out(
    server: Server,
    *services: ServicePlan,
    orphans: tuple[OrphanPlan, ...] = (),
    present: tuple[objects.Object, ...] = (),
    service: objects.Object | None = None,
    written: dict[str, datetime] | None = None,
    **options: Any,
) -> Outcome:
    stores = Stores()
    stores.services.apply("ADDED", service or objects.service())
    for raw in present:
        stores.allocations.apply("ADDED", raw)
        server.allocations[raw["metadata"]["name"]] = raw
    plan = Plan(NOW, services, orphans)
    known = written if written is not None else {}
    return act(server, plan, stores.copy({}), known, **options)  # type: ignore[arg-type]


def test_a_service_gets_its_allocation_then_the_patch_then_its_conditions_then_events() -> None:
    server = Server()
    carry_out(server, service_plan(patch=patch()))
    assert server.said == [
        "create InferenceAllocation",
        "patch InferenceAllocation/status",
        "patch Deployment",
        "patch InferenceService/status",
        "create Event",
    ]
    body = server.requests[0][2]
    assert body["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "inferscale.dev/v1alpha1",
            "kind": "InferenceService",
            "name": "chat",
            "uid": "uid-chat",
            "controller": True,
        }
    ]
    assert server.requests[2][2] == {"metadata": {"resourceVersion": "17"}, "spec": {"replicas": 4}}


def test_a_move_is_recorded_and_guarded_by_the_finalizer_before_the_deployment_is_patched() -> None:
    server = Server()
    carry_out(server, service_plan(allocation=MOVE, patch=patch()), present=(objects.allocation(),))
    assert server.said[:3] == [
        "patch InferenceAllocation",
        "patch InferenceAllocation/status",
        "patch Deployment",
    ]
    marks = server.requests[0][2]["metadata"]
    assert marks["finalizers"] == ["inferscale.dev/move"]
    assert marks["annotations"] == {"inferscale.dev/deployment": "chat"}


def test_a_move_is_ended_only_after_its_last_patch() -> None:
    server = Server()
    moving = objects.allocation(status={"reason": "Moving", "move": objects.move("Trim")}, **MARKED)
    carry_out(server, service_plan(patch=patch()), present=(moving,))
    assert server.said[:2] == ["patch Deployment", "patch InferenceAllocation/status"]
    assert "move" not in server.requests[1][2][1]["value"]


@pytest.mark.parametrize("error", [CONFLICT, FORBIDDEN])
def test_a_move_whose_last_patch_failed_stays_recorded(error: ApiError) -> None:
    server = Server(patch_Deployment=error)
    moving = objects.allocation(status={"reason": "Moving", "move": objects.move("Trim")}, **MARKED)
    carry_out(server, service_plan(patch=patch()), present=(moving,))
    assert not [what for what in server.said if what.startswith("patch InferenceAllocation")]


def test_the_finalizer_goes_when_no_move_is_recorded_and_those_of_others_stay() -> None:
    server = Server()
    marked = objects.allocation(
        status={"reason": "Optimal"},
        finalizers=["foregroundDeletion", "inferscale.dev/move"],
        annotations=MARKED["annotations"],
    )
    outcome = carry_out(server, service_plan(), present=(marked,), written={"uid-chat": NOW})
    assert server.allocations["chat"]["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert server.allocations["chat"]["metadata"]["annotations"] == {}
    assert not outcome.failures


def test_a_conflict_is_no_error_and_leaves_conditions_and_events_to_the_next_decision() -> None:
    server = Server(patch_Deployment=CONFLICT)
    outcome = carry_out(server, service_plan(patch=patch()))
    assert (outcome.conflicts, outcome.failures) == (["team/chat"], [])
    assert server.said[-1] == "patch Deployment"


def test_a_conflict_does_not_swallow_the_news_of_a_move_that_is_on_record() -> None:
    server = Server(patch_Deployment=CONFLICT)
    outcome = carry_out(server, service_plan(allocation=MOVE, patch=patch()), present=(objects.allocation(),))
    assert outcome.conflicts == ["team/chat"]
    assert server.said[-3:] == ["patch Deployment", "patch InferenceService/status", "create Event"]


def test_a_refused_patch_is_told_in_a_condition_and_a_warning() -> None:
    server = Server(patch_Deployment=FORBIDDEN)
    warning = EventNote(EventType.WARNING, "SLOAtRisk", "too slow")
    outcome = carry_out(server, service_plan(patch=patch(), events=(SCALED, warning)))
    assert [failure.key for failure in outcome.failures] == ["team/chat"]
    conditions = server.requests[3][2][1]["value"]["conditions"]
    assert [item["type"] for item in conditions] == ["Applied", "Ready"]
    assert conditions[0] == applied("False", "PatchRefused", FORBIDDEN.message)
    sent = [body["reason"] for what, _, body in server.requests if what == "create Event"]
    assert sent == ["SLOAtRisk", "PatchRefused"]


@pytest.mark.parametrize("error", [FORBIDDEN, ApiError(500, "InternalError", "the API server has a bad day")])
def test_a_patch_that_is_refused_does_not_swallow_the_news_of_a_move_that_is_on_record(
    error: ApiError,
) -> None:
    server = Server(patch_Deployment=error)
    started = EventNote(EventType.NORMAL, "MoveStarted", "2 on h100 to 1 on a100")
    carry_out(
        server,
        service_plan(allocation=MOVE, patch=patch(), events=(started,)),
        present=(objects.allocation(),),
    )
    sent = [body["reason"] for what, _, body in server.requests if what == "create Event"]
    assert sent == ["MoveStarted", *(["PatchRefused"] if error is FORBIDDEN else [])]


def test_a_patch_that_is_refused_again_is_not_told_again() -> None:
    server = Server(patch_Deployment=FORBIDDEN)
    earlier = "2026-03-01T11:00:00Z"
    known = objects.service(
        status={
            "replicas": 2,
            "conditions": [
                applied("False", "PatchRefused", FORBIDDEN.message, earlier),
                {**applied(), "type": "Ready"},
            ],
        }
    )
    carry_out(server, service_plan(patch=patch()), service=known, written={"uid-chat": NOW})
    assert "patch InferenceService/status" not in server.said
    assert "create Event" not in server.said


def test_the_failure_of_one_service_does_not_stop_the_others() -> None:
    server = Server(create_InferenceAllocation=FORBIDDEN)
    outcome = carry_out(
        server, service_plan("chat"), service_plan("code"), present=(objects.allocation("code"),)
    )
    assert [failure.key for failure in outcome.failures] == ["team/chat"]
    assert ("patch InferenceService/status", "code") in [(what, name) for what, name, _ in server.requests]


def test_an_api_server_that_does_not_answer_is_not_asked_again_for_each_service() -> None:
    server = Server(create_InferenceAllocation=UNREACHABLE)
    outcome = carry_out(server, service_plan("chat"), service_plan("code"))
    assert outcome.stopped
    assert server.said == ["create InferenceAllocation"]


def test_an_api_server_that_asks_to_be_left_alone_is_left_alone() -> None:
    server = Server(create_InferenceAllocation=ApiError(429, "TooManyRequests", "later"))
    outcome = carry_out(server, service_plan("chat"), service_plan("code"))
    assert outcome.left == ["team/code"]
    assert server.said == ["create InferenceAllocation"]


def test_what_there_was_no_time_for_comes_first_the_next_time() -> None:
    server = Server()
    outcome = carry_out(server, service_plan("chat"), service_plan("code"), deadline=0.0)
    assert (server.said, outcome.left) == ([], ["team/chat", "team/code"])
    carry_out(server, service_plan("chat"), service_plan("code"), first=["team/code"])
    assert next(name for _, name, _ in server.requests) == "code"


def test_a_clock_that_was_put_back_keeps_no_status_from_being_written() -> None:
    server = Server()
    present = objects.allocation(status={"reason": "Optimal", "message": "1.0 ms"})
    tomorrow = {"uid-chat": NOW + timedelta(days=1)}
    carry_out(server, service_plan(events=()), present=(present,), written=tomorrow)
    assert "patch InferenceAllocation/status" in server.said


def test_figures_that_are_not_worth_a_write_are_held() -> None:
    server = Server()
    present = objects.allocation(
        status={"reason": "Optimal", "message": "1.0 ms", "lastDecision": objects.TIME}
    )
    status = DONE.model_copy(update={"message": "2.0 ms"})
    recently = {"uid-chat": NOW - timedelta(seconds=30)}
    present["status"] |= {
        key: value
        for key, value in status.model_dump(mode="json", by_alias=True, exclude_none=True).items()
        if key != "message"
    }
    outcome = carry_out(server, service_plan(allocation=status), present=(present,), written=recently)
    assert outcome.held == {"uid-chat": status}
    assert "patch InferenceAllocation/status" not in server.said


def test_the_allocation_of_an_earlier_service_of_that_name_is_waited_for() -> None:
    server = Server()
    other = objects.allocation(ownerReferences=objects.owner("InferenceService", "old"))
    outcome = carry_out(server, service_plan(), present=(other,))
    assert outcome.conflicts == ["team/chat"]
    assert server.requests == []


def test_a_status_is_written_along_with_its_event_lest_the_event_be_sent_again() -> None:
    server = Server()
    known = objects.service(
        status={"replicas": 2, "conditions": [applied(message="earlier"), {**applied(), "type": "Ready"}]}
    )
    carry_out(server, service_plan(), service=known, written={"uid-chat": NOW})
    assert server.said[-2:] == ["patch InferenceService/status", "create Event"]


def test_a_status_is_guarded_by_the_uid_and_the_version_of_the_object_it_is_about() -> None:
    server = Server()
    carry_out(
        server, service_plan(), present=(objects.allocation(version=5),), service=objects.service(version=7)
    )
    guards = [(body[0], body[2]) for what, _, body in server.requests if what.endswith("/status")]
    uid = {"op": "test", "path": "/metadata/uid", "value": "uid-chat"}
    version = {"op": "replace", "path": "/metadata/resourceVersion"}
    assert guards == [(uid, version | {"value": "5"}), (uid, version | {"value": "7"})]


def orphan(*, release: bool) -> OrphanPlan:
    return OrphanPlan("team", "chat", DONE if release else MOVE, patch(), release)


def test_an_orphan_is_released_after_its_last_patch() -> None:
    server = Server()
    moving = objects.allocation(status={"reason": "Moving", "move": objects.move("Trim")}, **MARKED)
    carry_out(server, orphans=(orphan(release=True),), present=(moving,))
    assert server.said == [
        "patch Deployment",
        "patch InferenceAllocation/status",
        "patch InferenceAllocation",
    ]
    assert server.allocations["chat"]["metadata"]["finalizers"] == []


def test_an_orphan_whose_last_patch_is_refused_is_kept() -> None:
    server = Server(patch_Deployment=FORBIDDEN)
    moving = objects.allocation(status={"reason": "Moving", "move": objects.move("Trim")}, **MARKED)
    carry_out(server, orphans=(orphan(release=True),), present=(moving,))
    assert server.said == ["patch Deployment"]


def test_an_orphan_that_is_still_moving_is_recorded_first() -> None:
    server = Server()
    moving = objects.allocation(status={"reason": "Moving", "move": objects.move("Trim")}, **MARKED)
    carry_out(server, orphans=(orphan(release=False),), present=(moving,))
    assert server.said == ["patch InferenceAllocation/status", "patch Deployment"]


def test_figures_wait_for_a_later_plan_when_there_is_no_time_for_them() -> None:
    known = DONE.model_dump(mode="json", by_alias=True, exclude_none=True)
    status = DONE.model_copy(update={"message": "another figure"})
    for figures_s, written in ((60.0, True), (0.0, False)):
        server = Server()
        present = objects.allocation(status={**known, "message": "a figure"})
        outcome = carry_out(server, service_plan(allocation=status), present=(present,), figures_s=figures_s)
        assert ("patch InferenceAllocation/status" in server.said) == written
        assert (outcome.held == {}) == written


def test_what_matters_is_written_whether_or_not_there_is_time_for_figures() -> None:
    server = Server()
    present = objects.allocation(status={"reason": "Served"})
    carry_out(server, service_plan(allocation=DONE), present=(present,), figures_s=0.0)
    assert "patch InferenceAllocation/status" in server.said


def test_services_that_are_written_at_a_time_are_all_written_each_in_its_order() -> None:
    one_by_one, at_a_time = Server(), Server()
    names = [f"chat-{number:02}" for number in range(30)]
    for server, workers in ((one_by_one, 1), (at_a_time, 8)):
        services = (service_plan(name, allocation=DONE, patch=patch(name)) for name in names)
        outcome = carry_out(server, *services, workers=workers)
        assert outcome.failures == outcome.left == []
    for name in names:
        told, also = (
            [request for request, about, _ in server.requests if about.startswith(name)]
            for server in (one_by_one, at_a_time)
        )
        assert "patch Deployment" in told
        assert told == also


def test_a_field_that_older_definitions_drop_is_told_and_costs_no_write_at_every_tick() -> None:
    server, definitions = Server(), Definitions()
    server.unknown = {"reason"}
    told = objects.service(status=status_json(service_plan().status.status))

    def once_more(status: InferenceAllocationStatus) -> list[str]:
        server.requests.clear()
        known = tuple(server.allocations.values())
        plan = service_plan(allocation=status, events=())
        carry_out(server, plan, present=known, service=told, definitions=definitions)
        return server.said

    assert "patch InferenceAllocation/status" in once_more(DONE)
    assert definitions.dropped == {"InferenceAllocation": ("status.reason",)}
    assert once_more(DONE) == []
    # The definitions are brought up to date: the next write, whatever its cause, finds that out.
    server.unknown = set()
    assert once_more(DONE.model_copy(update={"mode": "Apply"})) == ["patch InferenceAllocation/status"]
    assert definitions.dropped == {}
    assert server.allocations["chat"]["status"]["reason"] == "Optimal"


def test_a_key_that_left_a_status_leaves_the_object_too() -> None:
    server = Server()
    before = {"replicas": 2, "accelerator": "h100", "conditions": []}
    plan = ServicePlan(ref(), DONE, StatusPlan(ref(), InferenceServiceStatus(replicas=2)))
    carry_out(
        server,
        plan,
        present=(objects.allocation(status={"reason": "Optimal"}),),
        service=objects.service(status=before),
    )
    [operations] = [body for what, _, body in server.requests if what == "patch InferenceService/status"]
    assert operations[1]["value"] == {"replicas": 2, "conditions": []}
