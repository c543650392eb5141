"""The colours of a world: the same in the page and in films.

Black is no food. A field glows: `1 - exp(-v / glow)` of its colour is added, so that a colour means the same amount at
any time and nothing is ever burnt out. Bacteria go from `HUNGRY` to `FED` with their energy, and are `TUMBLING` while
they tumble: a warm colour, which the table on the page has for tumbling too.
"""

BACKGROUND = (7, 10, 17)
FOOD = (255, 62, 66)
SIGNAL = (52, 120, 255)
HUNGRY = (38, 92, 66)
FED = (140, 255, 176)
TUMBLING = (255, 200, 92)
FOOD_GLOW = 0.6  # units a cell at which food has 63 % of its brightness
SIGNAL_GLOW = 0.3  # the same of the signal, which is sensed at a twentieth of a unit
SATED = 2.0  # energy at which a bacterium is as bright as it gets, in films; on the page, that at which it divides
