"""Count answers that nobody gives in the clear: each person's report is made deniable before it leaves their device.

There is no secure sum and no trusted server. A report is as likely, up to a factor e^epsilon, from any other answer. The
price is an error that grows with the square root of the number of people.
"""

import numpy as np

import fairyring as fr

ANSWERS = ("never", "once", "sometimes", "weekly", "daily")
PEOPLE, EPSILON = 20_000, 2.0

if __name__ == "__main__":
    truth = np.random.default_rng(0).choice(len(ANSWERS), PEOPLE, p=[0.45, 0.25, 0.15, 0.1, 0.05])
    counts = np.bincount(truth, minlength=len(ANSWERS))
    for randomizer in (
        fr.privacy.RandomizedResponse(EPSILON, len(ANSWERS)),
        fr.privacy.UnaryEncoding(EPSILON, len(ANSWERS)),
    ):
        reports = randomizer.randomize(truth)  # each person does this on their own device
        found = randomizer.estimate(reports)  # this is all that anybody else does
        name = type(randomizer).__name__
        print(f"{name}: a count is off by about {randomizer.variance(PEOPLE) ** 0.5:.0f}, as a rule")
        for answer, true, estimated in zip(ANSWERS, counts, found, strict=True):
            print(f"  {answer:10} {true:6,} estimated {estimated:8,.0f}")
        worst = np.abs(found - counts).max() / PEOPLE
        print(f"{name} largest error, as a share of the people {worst:.4f}")
