package minialbert.core

/** Input that cannot be used; the message is one line that states the rule and what was received. */
class InputException(message: String, cause: Throwable? = null) : Exception(message, cause)
