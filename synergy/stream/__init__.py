"""Learning from real streams: own network, own data, new classes at any time, no task boundaries."""

from synergy.stream.learner import Learner as Learner
