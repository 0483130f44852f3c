"""The models, and the contract that the builder and the service share.

Every model is cut at the cache (`models/base.py`):

    encode(user)                   -> UserState    offline, once per user and build
    score(state, context, slate)   -> logits       online, per request

Where to start reading:

1. `base.py`: the cut, and what a model has to implement. `batch.py`: the inputs, and the letters of the axes.
2. `sequence/lrea.py`: LREA, the model that this project was built around; `field/fm.py` is the shortest model.
3. `contract/record.py`: the bytes in which a user's state lies in the cache.
4. `registry.py`: every model by name.

`contract/` imports numpy and the standard library only, so that the service starts without torch. The other folders
need torch: `blocks/` (layers of two or more models), `readers/` (ways to read a history), `field/` (models of feature
fields) and `sequence/` (models of long histories). The builder trains them and exports them to ONNX graphs, which the
service runs.
`command_line.py` is the console script `absorb`, which both halves add their commands to.
"""
