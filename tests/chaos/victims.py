"""Who is killed: a shuffled plan of victims, and how each of them dies and comes back."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from tests.chaos.forks import Forks
from tests.support.stack import ProviderProcess, World

FORK, CELERY, FLUSH = "forked pump", "celery worker", "redis flush"
PROGRAMS = ("web", "control", "beat")
SERVERS = ("postgres", "redis", FLUSH)
CELERY_SHARE, RARE_SHARE = 40, 100  # one kill of so many


def plan(kills: int, chance: random.Random, *, servers: bool) -> list[str]:
    """The victims in the order of their deaths: each kind at least once, mostly forked pumps."""
    rare = (*PROGRAMS, *(SERVERS if servers else ()))
    special = [CELERY] * max(1, kills // CELERY_SHARE)
    special += [name for name in rare for _ in range(max(1, kills // RARE_SHARE))]
    deaths = sum(name != FLUSH for name in special)
    victims = special + [FORK] * max(kills - deaths, 0)
    chance.shuffle(victims)
    return victims


class Killer:
    """Kills one victim after the other; ``killed`` counts them by kind."""

    def __init__(
        self, world: World[ProviderProcess], forks: Forks, workers: int, chance: random.Random
    ) -> None:
        self.killed: Counter[str] = Counter()
        self._world, self._forks, self._workers, self._chance = world, forks, workers, chance

    @property
    def kills(self) -> int:
        """How many processes have been killed."""
        return sum(count for name, count in self.killed.items() if name != FLUSH)

    def strike(self, victim: str) -> None:
        """The victim was killed with SIGKILL, or Redis was emptied; what is not brought back by the
        stack's own supervisor is running again. One that is dead already is spared.
        """
        done = True
        if victim == FORK:
            self._forks.kill_one(self._chance)
        elif victim == CELERY:
            done = self._kill_a_celery_worker()
        elif victim in PROGRAMS:
            done = self._world.kill(victim)
        else:
            self._strike_server(victim)
        if done:
            self.killed[victim] += 1
        else:
            self.strike(FORK)

    def _kill_a_celery_worker(self) -> bool:
        names = [f"worker-{number + 1}" for number in range(self._workers)]
        self._chance.shuffle(names)
        return any(self._world.kill(name) for name in names)

    def _strike_server(self, victim: str) -> None:
        postgres, redis = self._world.stack.postgres, self._world.stack.redis
        assert postgres is not None
        assert redis is not None
        if victim == FLUSH:
            redis.flush()
        elif victim == "redis":
            redis.kill()
            redis.restart()
        else:
            postgres.kill()
            postgres.restart()


def told(killed: Counter[str]) -> Sequence[str]:
    """The counts in words, the most frequent first."""
    return [f"{count} x {name}" for name, count in killed.most_common()]
