"""A cluster shaken by random events, and what must be true of it when they stop.

`course` draws events from a seed, `events` says what each does, `state` what there is after it, `site` is where it is
done; `judgement` says what kernels, routers and plans must hold in a state, and `figures` what the processes use.
"""
