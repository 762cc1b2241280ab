"""What the document cannot say: which pipelines there are."""

import os

import schemathesis

PIPELINES = os.environ["AURORA_PIPELINES"].split(",")
KNOWN = {"target": "staging", "agent": "staging", "application": "done"}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Half of the requests are about something that is there; which half follows from the request itself."""
    if not path_parameters or not context.operation.path.startswith(("/pipelines/", "/applications/", "/agents/")):
        return path_parameters
    made = str(sorted(path_parameters.items()))
    if sum(made.encode()) % 2:
        return path_parameters
    mapped = dict(path_parameters)
    for name in mapped:
        if name == "id":
            mapped[name] = PIPELINES[len(made) % len(PIPELINES)]
        elif name in KNOWN:
            mapped[name] = KNOWN[name]
    return mapped
