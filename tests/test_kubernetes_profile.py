"""``dagster_home/profiles/kubernetes``: rendered, held against schemas; no cluster runs it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster_postgres import DagsterPostgresStorage
from dagster_ray.kuberay.configs import RayClusterSpec

from catalog_pipeline.defs.ops.run_launcher import WatchedRunLauncher
from catalog_pipeline.settings.load import FILES, load_settings

REPOSITORY = Path(__file__).resolve().parents[1]
PROFILES = REPOSITORY / "dagster_home" / "profiles"
PROFILE = PROFILES / "kubernetes"
KUBERNETES = "1.37"
SECRETS = {"dagster-postgres", "ray-token", "archive-bucket"}
Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would apply, by kubectl itself; it asks no cluster."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl (Debian's kubernetes-client) to render a kustomization")
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return render(PROFILE / "site")


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every pod that there would be, by name."""
    for name, found in of_kind(manifests, "Deployment").items():
        yield name, found["spec"]["template"]
    for found in of_kind(manifests, "RayCluster").values():
        yield "ray head", found["spec"]["headGroupSpec"]["template"]
        for group in found["spec"]["workerGroupSpecs"]:
            yield f"ray {group['groupName']}", group["template"]


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for name, template in templates(manifests):
        assert "initContainers" not in template["spec"]
        for container in template["spec"]["containers"]:
            yield name, container


def config(manifests: list[Manifest], name: str) -> dict[str, str]:
    """The files of a ConfigMap, whose name ends in a hash of them."""
    maps = of_kind(manifests, "ConfigMap")
    (found,) = [each for key, each in maps.items() if re.fullmatch(rf"{name}-[a-z0-9]{{10}}", key)]
    data: dict[str, str] = found["data"]
    return data


def snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_every_manifest_is_of_its_kubernetes_schema(manifests):
    core = [m for m in manifests if m["apiVersion"] != "ray.io/v1"]
    assert len(core) > 15
    for manifest in core:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    broken = {**core[0], "spec": {"podselector": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_the_ray_cluster_is_what_kuberay_knows(manifests):
    """Its own fields by the model of dagster-ray, its pods by the schema of a PodTemplate."""
    (ray,) = of_kind(manifests, "RayCluster").values()
    assert ray["apiVersion"] == "ray.io/v1"
    spec = {snake_case(name): value for name, value in ray["spec"].items()}
    spec["auth_options"] = {snake_case(k): v for k, v in spec["auth_options"].items()}
    checked = RayClusterSpec.model_validate(spec)
    assert checked.auth_options is not None
    assert (checked.auth_options.mode, checked.auth_options.secret_name) == ("token", "ray-token")
    assert not checked.model_extra
    assert not checked.auth_options.model_extra
    group = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert {*ray["spec"]["headGroupSpec"]} == {"serviceType", "rayStartParams", "template"}
    assert [set(each) for each in ray["spec"]["workerGroupSpecs"]] == [group]
    for name, template in templates([ray]):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}}
        kubernetes_validate.validate({**pod, "template": template}, KUBERNETES, strict=True)
        assert name.startswith("ray")


def test_the_version_of_ray_is_the_same_everywhere(manifests):
    (ray,) = of_kind(manifests, "RayCluster").values()
    version = ray["spec"]["rayVersion"]
    pins = re.findall(r"^ray==(.+)$", (REPOSITORY / "constraints.txt").read_text("utf-8"), re.M)
    assert pins == [version]


def test_dagster_reads_its_instance_and_its_workspace(manifests, tmp_path, monkeypatch):
    files = config(manifests, "dagster-instance")
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://u:p@127.0.0.1:1/dagster")
    instance = InstanceRef.from_dir(str(tmp_path))  # reads and checks it, and connects to nothing
    assert instance.settings["telemetry"] == {"enabled": False}
    assert instance.run_launcher_data is not None
    assert instance.run_launcher_data.class_name == WatchedRunLauncher.__name__
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    storage = instance.storage_data
    assert storage.class_name == DagsterPostgresStorage.__name__
    schema = resolve_to_config_type(DagsterPostgresStorage.config_type())
    processed = process_config(schema, storage.config_dict)
    assert processed.success, processed.errors
    assert not process_config(schema, {"postgres_uri": "x"}).success
    (origin,) = location_origins_from_yaml_paths([str(tmp_path / "workspace.yaml")])
    (service,) = [
        s for s in of_kind(manifests, "Service").values() if s["metadata"]["name"] == origin.host
    ]
    assert service["spec"]["ports"][0]["port"] == origin.port
    assert origin.location_name == "catalog_pipeline"
    plain = (PROFILES / "postgres.yaml").read_text("utf-8")
    assert yaml.safe_load(files["dagster.yaml"]) == yaml.safe_load(plain)


def test_the_pipeline_reads_its_settings(manifests, tmp_path):
    files = config(manifests, "settings")
    assert set(files) <= {f"{name}.yaml" for name in FILES}
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    settings = load_settings(tmp_path, tmp_path)
    assert settings.archive.s3 is not None
    assert settings.catalog.root == Path("/photos")
    (ray,) = of_kind(manifests, "RayCluster")
    assert settings.execution.engine == "ray"
    assert settings.execution.address == f"ray://{ray}-head-svc:10001"


def test_no_pod_is_privileged_unbounded_or_of_an_unnamed_image(manifests):
    seen = list(containers(manifests))
    assert len(seen) == 5
    for name, container in seen:
        image, _, tag = container["image"].rpartition(":")
        assert image.endswith("/catalog-pipeline"), name
        assert tag
        assert tag != "latest"
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        for bound in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][bound])
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    for name, template in templates(manifests):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["automountServiceAccountToken"] is False


def test_secrets_are_named_and_never_written(manifests):
    assert not of_kind(manifests, "Secret")
    named = set()
    for _, container in containers(manifests):
        for variable in container["env"]:
            if "valueFrom" in variable:
                named.add(variable["valueFrom"]["secretKeyRef"]["name"])
            else:
                assert not re.search(r"TOKEN|PASSWORD|SECRET|KEY|URL", variable["name"])
        named |= {source["secretRef"]["name"] for source in container.get("envFrom", ())}
    (ray,) = of_kind(manifests, "RayCluster").values()
    assert named | {ray["spec"]["authOptions"]["secretName"]} == SECRETS
    page = (REPOSITORY / "docs" / "scaling.md").read_text("utf-8")
    assert set(re.findall(r"create secret generic (\S+)", page)) == SECRETS


def test_what_pods_name_is_there(manifests):
    maps, claims = of_kind(manifests, "ConfigMap"), of_kind(manifests, "PersistentVolumeClaim")
    photos = 0
    for name, template in templates(manifests):
        assert template["spec"]["serviceAccountName"] in of_kind(manifests, "ServiceAccount")
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for volume in volumes.values():
            assert volume.get("configMap", {"name": next(iter(maps))})["name"] in maps, name
            claim = volume.get("persistentVolumeClaim")
            if claim is not None:
                assert claim["claimName"] in claims
                assert claim["readOnly"] is True
        for container in template["spec"]["containers"]:
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert set(mounts) == set(volumes), name
            if "photos" in mounts:
                photos += 1
                assert mounts["photos"]["readOnly"] is True
    assert photos == 2


def test_nothing_leaves_the_cluster_but_to_postgres_and_the_bucket(manifests):
    policies = of_kind(manifests, "NetworkPolicy")
    assert policies["deny-all"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    outside = {}
    for name, policy in policies.items():
        for rule in policy["spec"].get("egress", ()):
            assert rule.get("to"), f"{name} lets everything out"
            for peer in rule["to"]:
                if "ipBlock" in peer:
                    assert peer["ipBlock"]["cidr"].endswith("/32")
                    outside[name] = [port["port"] for port in rule["ports"]]
                elif "namespaceSelector" in peer:
                    assert name == "names"
                else:
                    assert peer["podSelector"], f"{name} lets out to every pod"
    assert outside == {"to-postgres": [5432], "to-bucket": [443]}
    labels = {
        template["metadata"]["labels"]["app.kubernetes.io/name"]
        for _, template in templates(manifests)
    }
    selected = {
        value
        for policy in policies.values()
        for value in (
            *policy["spec"]["podSelector"].get("matchLabels", {}).values(),
            *(
                v
                for e in policy["spec"]["podSelector"].get("matchExpressions", ())
                for v in e["values"]
            ),
        )
    }
    assert selected == labels


def test_nothing_tells_anybody_of_its_use(manifests):
    for name, container in containers(manifests):
        values = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert values["DO_NOT_TRACK"] == "1", name
        if name.startswith("ray") or name == "code-location":
            assert values["RAY_USAGE_STATS_ENABLED"] == "0"
        if name == "code-location":
            assert values["RAY_AUTH_MODE"] == "token"


def test_a_gpu_for_each_worker_is_one_line(tmp_path):
    copy = tmp_path / "kubernetes"
    shutil.copytree(PROFILE, copy)
    file = copy / "site" / "kustomization.yaml"
    text = file.read_text("utf-8")
    assert "# components: [../gpu]" in text
    file.write_text(text.replace("# components: [../gpu]", "components: [../gpu]"), "utf-8")
    (worker,) = [c for name, c in containers(render(copy / "site")) if name == "ray workers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
