"""What is true of the cluster: list, watch, parse, and the one mutable picture.

    API server ─▶ kube, api ─▶ reflector ⇄ listwatch ─▶ parse ─▶ known ─▶ put ─▶ World

`kube` reads credentials and opens connections, `api` asks with the credentials of now. `driver` runs one `reflector`
per kind, which moves bytes (cut by `split`) between the transport and the pure machine `listwatch`; that one decides
with `health` (pauses, what is wrong), `request` (what to ask), `refusal` (what a no means) and `known` (what is news).
`parse` makes records of objects with `shapes` (what is decoded), `fields` (values nobody has checked), `resources` (our
own kinds) and `kinds` (where they live). Nothing here knows what a record is used for.
"""
