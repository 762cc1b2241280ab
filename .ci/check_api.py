"""Holds the running API to its own OpenAPI document with schemathesis.

It starts `aurora up` over a simulated cluster in a directory of its own, submits a few pipelines so that there is something
to read, and lets schemathesis send examples, the corners of every parameter, and random requests, right and wrong ones.
Every answer must be one that the document describes.
"""

import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
# The whole run, so that it is bounded however slow the machine is.
SECONDS = int(os.environ.get("AURORA_API_SECONDS", "150"))


def deploy_file(application, image, steps):
    manifest = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": application},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": application}},
            "template": {
                "metadata": {"labels": {"app": application}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    }
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": application},
        "stringData": {"password": "not to be seen"},
    }
    return {
        "version": "v1", "kind": "kubernetes", "application": application, "description": "for the check of the API",
        "targets": {"staging": {"account": "staging", "namespace": "default", "strategy": "slowly"}},
        "strategies": {"slowly": {"canary": {"steps": steps}}},
        "manifests": [{"path": "app.yaml"}],
        "files": {"app.yaml": [json.dumps(manifest), json.dumps(secret)]},
    }


class Api:
    def __init__(self, context):
        self.url = context["server"]
        self.tls = ssl.create_default_context(cadata=context["certificateAuthority"])
        form = urllib.parse.urlencode({
            "grant_type": "client_credentials",
            "client_id": context["clientId"], "client_secret": context["clientSecret"],
        }).encode()
        request = urllib.request.Request(context["issuer"] + "/oauth/token", form)
        with urllib.request.urlopen(request, context=self.tls, timeout=30) as answer:
            self.token = json.load(answer)["access_token"]

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", "Bearer " + self.token)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, context=self.tls, timeout=30) as answer:
            return json.load(answer)


def until(api, pipeline, statuses):
    deadline = time.monotonic() + 60
    while True:
        status = api.ask("GET", f"/pipelines/{pipeline}")["status"]
        if status in statuses:
            return
        if time.monotonic() > deadline or status == "FAILED":
            view = api.ask("GET", f"/pipelines/{pipeline}/view")
            why = [target.get("error") for target in view["targets"]]
            raise SystemExit(f"pipeline {pipeline} is {status}, not one of {statuses}: {why}")
        time.sleep(0.2)


def prepare(api):
    """Pipelines in several states; their ids."""
    pause = {"pause": {"untilApproved": True}}
    quick = [{"setWeight": {"weight": 100}}]
    ids = []

    def submit(file, statuses):
        ids.append(api.ask("POST", "/pipelines", file)["pipelineId"])
        until(api, ids[-1], statuses)

    submit(deploy_file("done", "done:1", quick), ["SUCCEEDED"])
    submit(deploy_file("done", "done:2", [{"setWeight": {"weight": 50}}, pause]), ["AWAITING_APPROVAL"])
    submit(deploy_file("other", "other:1", quick), ["SUCCEEDED"])
    return ids


def main():
    program, schemathesis = sys.argv[1], sys.argv[2]
    with tempfile.TemporaryDirectory() as directory:
        command = [
            program, "up", "--simulate", "staging", "--state-dir", directory, "--output", "json",
            "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
        ]
        log = open(os.path.join(directory, "up.log"), "w")
        up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            said = json.loads(up.stdout.readline())
            context = json.loads(pathlib.Path(said["context"]).read_text())
            api = Api(context)
            ids = prepare(api)
            authority = os.path.join(directory, "authority.pem")
            pathlib.Path(authority).write_text(context["certificateAuthority"])
            environment = dict(os.environ, AURORA_PIPELINES=",".join(ids), SCHEMATHESIS_HOOKS="schemathesis_hooks",
                               PYTHONPATH=str(HERE))
            code = subprocess.run([
                schemathesis, "--config-file", str(HERE / "schemathesis.toml"),
                "run", f"{context['server']}/openapi.json", "--tls-verify", authority,
                "--header", f"Authorization: Bearer {api.token}",
                "--max-time", str(SECONDS), "--seed", "20261124",
                "--report-dir", os.path.join(directory, "reports"), *sys.argv[3:],
            ], env=environment, cwd=directory).returncode
        finally:
            up.terminate()
            up.wait(timeout=60)
        log.close()
        trouble = [line for line in open(log.name) if "panicked" in line]
        for line in trouble:
            print(line, end="")
        if up.returncode != 0:
            print(f"aurora up ended with {up.returncode}")
        print(f"the API beside its document: {'0 failed' if code == 0 else 'FAILED'}")
        sys.exit(code or (1 if trouble or up.returncode != 0 else 0))


main()
