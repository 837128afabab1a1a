"""A control plane of plain processes on 127.0.0.1: etcd, API server, controller manager, scheduler."""

from __future__ import annotations

import base64
import secrets
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import process

# The order of the group of NIST P-256 (FIPS 186-4, D.1.2.3): a private key is a number below it.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class ControlPlane:
    """Files and ports of a control plane.

    Attributes:
        state_dir: where everything it writes goes.
        api_port: where the API server listens on 127.0.0.1.
        etcd_port: where etcd serves the API server.
        peer_port: where etcd waits for peers that never come.
    """

    state_dir: Path
    api_port: int
    etcd_port: int
    peer_port: int

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.state_dir / "kubeconfig"

    @property
    def certificate(self) -> Path:
        """The API server's certificate, which it makes itself when it first starts."""
        return self.state_dir / "certs" / "apiserver.crt"

    @property
    def service_account_key(self) -> Path:
        """The key that signs the tokens of service accounts."""
        return self.state_dir / "service-account.key"

    @property
    def tokens(self) -> Path:
        """The file of static tokens."""
        return self.state_dir / "tokens.csv"

    @property
    def audit_policy(self) -> Path:
        """Which requests are logged."""
        return self.state_dir / "audit-policy.yaml"


AUDIT_LOG = "audit.log"
"""In the state directory: every request of a service account outside of kube-system, without its body."""
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    userGroups: [system:masters, system:serviceaccounts:kube-system]
  - level: Metadata
    userGroups: [system:serviceaccounts]
  - level: None
"""


def start(state_dir: Path, tools: Mapping[str, Path]) -> None:
    """Start a control plane under the folder's supervisor; returns when it serves.

    Raises:
        ClusterError: a process ended or is not ready in a minute; with the end of its log.
    """
    plane = ControlPlane(state_dir, *process.free_ports(3))
    token = secrets.token_urlsafe(32)
    plane.service_account_key.write_text(ec_private_key(1 + secrets.randbelow(_P256_ORDER - 1)))
    plane.tokens.write_text(f'{token},admin,admin,"system:masters"\n')
    plane.audit_policy.write_text(_AUDIT_POLICY)
    process.start_component(state_dir, "etcd", etcd_command(plane, tools["etcd"]))
    process.start_component(state_dir, "kube-apiserver", apiserver_command(plane, tools["kube-apiserver"]))
    process.wait_for_component(state_dir, "kube-apiserver", lambda: is_ready(plane, token), 60)
    certificate = plane.certificate.read_bytes()
    plane.kubeconfig.write_text(kubeconfig(plane.server, base64.b64encode(certificate).decode(), token))
    process.start_component(
        state_dir,
        "kube-controller-manager",
        controller_manager_command(plane, tools["kube-controller-manager"]),
    )
    process.start_component(state_dir, "kube-scheduler", scheduler_command(plane, tools["kube-scheduler"]))


def etcd_command(plane: ControlPlane, etcd: Path) -> list[str]:
    """The command line of etcd."""
    client, peer = (f"http://127.0.0.1:{port}" for port in (plane.etcd_port, plane.peer_port))
    return [
        str(etcd),
        "--name=local",
        f"--data-dir={plane.state_dir / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_command(plane: ControlPlane, apiserver: Path) -> list[str]:
    """The command line of the API server."""
    return [
        str(apiserver),
        f"--etcd-servers=http://127.0.0.1:{plane.etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={plane.api_port}",
        f"--cert-dir={plane.certificate.parent}",
        # A loopback address may not stand in the endpoints of the service `kubernetes`.
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        f"--token-auth-file={plane.tokens}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={plane.service_account_key}",
        f"--service-account-signing-key-file={plane.service_account_key}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--allow-privileged=true",
        f"--audit-policy-file={plane.audit_policy}",
        f"--audit-log-path={plane.state_dir / AUDIT_LOG}",
        "--audit-log-maxsize=50",
        "--audit-log-maxbackup=1",
    ]


def controller_manager_command(plane: ControlPlane, controller_manager: Path) -> list[str]:
    """The command line of the controller manager."""
    return [
        str(controller_manager),
        f"--kubeconfig={plane.kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={plane.service_account_key}",
        f"--root-ca-file={plane.certificate}",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def scheduler_command(plane: ControlPlane, scheduler: Path) -> list[str]:
    """The command line of the scheduler."""
    return [
        str(scheduler),
        f"--kubeconfig={plane.kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def is_ready(plane: ControlPlane, token: str) -> bool:
    """Whether the API server says that it is ready."""
    return plane.certificate.exists() and process.answers(f"{plane.server}/readyz", plane.certificate, token)


def kubeconfig(server: str, certificate_base64: str, token: str, namespace: str = "default") -> str:
    """A kubeconfig with one context."""
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: Config
        clusters:
        - name: inferscale
          cluster:
            server: {server}
            certificate-authority-data: {certificate_base64}
        users:
        - name: user
          user:
            token: {token}
        contexts:
        - name: inferscale
          context:
            cluster: inferscale
            user: user
            namespace: {namespace}
        current-context: inferscale
        """)


def ec_private_key(number: int) -> str:
    """A P-256 private key in PEM (RFC 5915), without the public key, which readers compute from it.

    Args:
        number: the secret, from 1 to the group's order less 1.
    """
    der = b"\x30\x31\x02\x01\x01\x04\x20" + number.to_bytes(32) + bytes.fromhex("a00a06082a8648ce3d030107")
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n"
