"""Sentences that come with the package: what an export is checked on, and what its page searches."""

SENTENCES = (
    "A man is playing a guitar.",
    "Someone plays an instrument.",
    "The central bank raised interest rates by half a point on Thursday.",
    "Borrowing money became more expensive after the decision of the bank.",
    "How do I reset my password?",
    "I cannot log in to my account.",
    "The cat sleeps on the warm window sill.",
    "A small dog runs along the river.",
    "Heavy rain flooded several streets in the old town.",
    "The weather tomorrow will be sunny and dry.",
    "Scientists have found water below the surface of the planet.",
    "The telescope took the sharpest picture yet of a distant galaxy.",
    "She cooked rice with vegetables and a little garlic.",
    "The recipe needs two eggs, 300 g of flour and some milk.",
    "Our team lost the final 3-2 in extra time.",
    "The champion won her fifth title in a row.",
    "Doctors advise adults to sleep at least seven hours a night.",
    "Regular exercise lowers the risk of heart disease.",
    "The train to the airport leaves every 20 minutes.",
    "Flights were cancelled because of a strike.",
    "He wrote a letter to his grandmother in 1987.",
    "The novel tells the story of two sisters in a village by the sea.",
    "Please send me the invoice by the end of the month.",
    "The parcel has not arrived, and I want my money back.",
    "No.",
    "The company's shares fell 12 % after it said that profits would be lower than expected.",
    "Children are painting pictures in a classroom.",
    "A woman is slicing an onion in the kitchen.",
    "Electric cars are getting cheaper as batteries improve.",
    "The new phone's battery lasts for two days.",
    "Parliament will vote on the law next week, although several ministers oppose it.",
    "What is the capital of Australia?",
)


def uneven(count: int) -> list[str]:
    """The first `count` texts of very different length: each sentence alone, then runs of 2 to 12 sentences."""
    twice = SENTENCES * 2
    runs = (" ".join(twice[row : row + 2 + row // 3]) for row in range(len(SENTENCES)))
    return [*SENTENCES, *runs][:count]
