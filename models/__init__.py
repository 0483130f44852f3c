"""Models, and the contract that builder and service share.

Every model is cut at the cache (`models/base.py`):

    encode(user)                   -> UserState    offline, once per user and build
    score(state, context, slate)   -> logits       online, per request

Start reading at `base.py` (the cut), then `sequence/lrea.py` (the model this project exists for), then
`record.py` (how a state travels through Redis). The wire contract (`errors`, `schema`, `vocabulary`,
`record`, `artifact`, `cache_server`) imports numpy only, so the service starts without torch.
"""
