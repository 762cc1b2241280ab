"""Runs the demo and, at each gate, reads the pods of both versions from the cluster's own API with kubectl.

The demo's JSON lines say at which gate a target stands; kubectl says how many pods each ReplicaSet really has. Both must
agree, and the share of new pods must be the weight that the step asked for, as near as whole pods allow.
"""

import json
import signal
import subprocess
import sys
import time


def replica_sets(kubeconfig, namespace):
    """Rollout name -> list of (revision, wanted pods, available pods), oldest first."""
    text = subprocess.run(
        ["kubectl", "--kubeconfig", kubeconfig, "-n", namespace, "get", "replicasets", "-o", "json"],
        check=True, capture_output=True, text=True, timeout=30,
    ).stdout
    found = {}
    for item in json.loads(text)["items"]:
        meta = item["metadata"]
        owner = next(o["name"] for o in meta["ownerReferences"] if o["kind"] == "Rollout")
        revision = int(meta["annotations"]["rollout.argoproj.io/revision"])
        available = item.get("status", {}).get("availableReplicas", 0)
        found.setdefault(owner, []).append((revision, item["spec"].get("replicas", 0), available))
    return {owner: sorted(sets) for owner, sets in found.items()}


def standing(target):
    """The step gate at which a target stands, and its weight."""
    for step in target["steps"]:
        gate = step.get("gate")
        if gate and gate["state"] == "standing":
            return gate["id"], step["weight"]
    return None


def check_gate(target, weight, kubeconfig):
    sets = replica_sets(kubeconfig, target["namespace"])
    problems = []
    for rollout in target["rollouts"]:
        name = rollout["object"]["name"]
        if rollout["object"]["kind"] != "Rollout":
            continue
        (_, wanted, new), older = sets[name][-1], sets[name][:-1]
        old = sum(available for _, _, available in older)
        share = 100 * new / max(new + old, 1)
        print(f"  {target['name']}/{name}: asked {weight} %, kubectl counts {new} new and {old} old pods ({share:.0f} %)")
        if new != wanted:
            problems.append(f"{name}: {new} of {wanted} new pods are available at a gate")
        if abs(share - weight) > 100 / max(new + old, 1):
            problems.append(f"{name}: {share:.0f} % of the pods are new, {weight} % were asked for")
        if new != rollout["pods"]["newAvailable"]:
            problems.append(f"{name}: aurora says {rollout['pods']['newAvailable']} new pods, kubectl {new}")
    return problems


def check_rolled_back(kubeconfig):
    """After the failed version 2, version 1 and its configuration are there again and Healthy."""
    def get(kind, name):
        command = ["kubectl", "--kubeconfig", kubeconfig, "-n", "lanterns", "get", kind, name, "-o", "json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout)

    problems = []
    for name in ["web", "orders"]:
        rollout = get("rollout", name)
        status, container = rollout["status"], rollout["spec"]["template"]["spec"]["containers"][0]
        print(f"  staging/{name}: {status['phase']}, image {container['image']}")
        if status["phase"] != "Healthy" or status["stableRS"] != status["currentPodHash"]:
            problems.append(f"{name} is {status['phase']} after the rollback")
        if not container["image"].endswith(f"/{name}:1"):
            problems.append(f"{name} runs {container['image']} after the rollback")
        if status.get("abort"):
            problems.append(f"{name} is still aborted after the rollback")
    web = get("rollout", "web")["spec"]["template"]["spec"]["containers"][0]
    greeting = get("configmap", web["envFrom"][0]["configMapRef"]["name"])["data"]["greeting"]
    if greeting != "Light one.":
        problems.append(f"the configuration after the rollback says {greeting!r}")
    for revision, wanted, available in replica_sets(kubeconfig, "lanterns")["web"]:
        print(f"  staging/web revision {revision}: {available} of {wanted} pods")
    return problems


def main():
    program, arguments = sys.argv[1], sys.argv[2:]
    fail = "--fail" in arguments
    started = time.monotonic()
    # Held, so that the clusters can still be asked after the last pipeline.
    demo = subprocess.Popen([program, "demo", "--hold", "--output", "json", *arguments], stdout=subprocess.PIPE, text=True)
    clusters, checked, problems, last, took = {}, set(), [], None, 0.0
    for text in demo.stdout:
        line = last = json.loads(text)
        if line["type"] == "cluster":
            clusters[line["account"]] = line["kubeconfig"]
        if line["type"] == "result":
            took = time.monotonic() - started
            if fail:
                problems += check_rolled_back(clusters["staging"])
            demo.send_signal(signal.SIGINT)
        if line["type"] != "view":
            continue
        view = line["view"]
        for target in view["targets"]:
            gate = standing(target)
            if gate and (view["id"], gate[0]) not in checked:
                checked.add((view["id"], gate[0]))
                problems += check_gate(target, gate[1], clusters[target["account"]])
    code = demo.wait(timeout=60)
    print(f"demo {' '.join(arguments)}: exit {code}, {took:.1f} s, {len(checked)} gates checked with kubectl")
    if last is None or last["type"] != "result":
        problems.append("the last line is not the final pipeline")
    else:
        problems += check_end(last["pipeline"], fail)
    if code != (1 if fail else 0):
        problems.append(f"exit code {code}")
    if not fail and len(checked) < 6:
        problems.append(f"only {len(checked)} gates were seen; two targets have three each")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    sys.exit(1 if problems else 0)


def check_end(pipeline, fail):
    problems = []
    wanted = "FAILED" if fail else "SUCCEEDED"
    if pipeline["status"] != wanted:
        problems.append(f"the pipeline ended {pipeline['status']}, not {wanted}")
    if fail:
        if pipeline.get("rolledBack") != "yes":
            problems.append(f"rolledBack is {pipeline.get('rolledBack')}")
        if not any(e.get("pod", {}).get("reason") and e["pod"].get("container") for e in pipeline["evidence"]):
            problems.append("no pod, container and reason is named")
    for target, rollouts in pipeline["history"].items():
        for name, points in rollouts.items():
            print(f"  {target}/{name}: weights seen {sorted({p['weightReal'] for p in points if p['weightReal'] is not None})}")
    return problems


main()
