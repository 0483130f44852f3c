"""KServe's REST client, unmodified, against the server named as argument; what it got is printed as one JSON object.

Run by the interpreter of a venv that has kserve (`make conformance`): it needs an older protobuf than ours.
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

SLATE = ["i1", "i5", "no such"]


def tensor(name, values, is_binary):
    made = InferInput(name, [len(values)], "BYTES")
    made.set_data_from_numpy(np.array([one.encode() for one in values], object), is_binary)
    return made


async def main(url) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    said = {"model_ready": await client.is_model_ready(url, "toy")}
    said["no_such_model_ready"] = await client.is_model_ready(url, "nosuch")
    for is_binary in (True, False):
        for is_binary_out in (True, False):
            request = InferRequest(
                "toy",
                [tensor("user_id", ["ann"], is_binary), tensor("candidates", SLATE, is_binary)],
                request_id="k7",
                parameters={"binary_data_output": is_binary_out},
            )
            answer = await client.infer(url, request, model_name="toy")
            name = f"scores {is_binary} {is_binary_out}"
            said[name] = answer.outputs[0].as_numpy().tolist()
            said["id"] = answer.id
    for name, ask in (("live", client.is_server_live), ("ready", client.is_server_ready)):
        try:
            said[name] = await ask(url)
        except ValueError as error:
            said[name] = type(error).__name__
    await client.close()
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
