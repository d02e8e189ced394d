/**
 * Who has an allocation with which worker, so that the newest of a user wins over those with others.
 *
 * Within one worker `RelayServer` sees to that by itself. What comes here is what workers tell, in
 * the order in which it arrives: that order decides which allocation is the newest.
 * @module
 */

/** An allocation as the main thread knows it. */
export interface UserAllocation {
  /** Position of the worker that has it. */
  readonly worker: number;
  /** Its name within that worker. */
  readonly id: number;
}

/** The only allocation of each user that may have but one. */
export class UserRegistry {
  readonly #byUsername = new Map<string, UserAllocation>();

  /** Nobody. */
  constructor() {}

  /** Number of users. */
  get size(): number {
    return this.#byUsername.size;
  }

  /** A worker has made an allocation. @returns the one that it supersedes elsewhere */
  handleAllocated(username: string, allocation: UserAllocation): UserAllocation | undefined {
    const before = this.#byUsername.get(username);
    this.#byUsername.set(username, allocation);
    return before?.worker === allocation.worker ? undefined : before;
  }

  /** An allocation has ended. */
  handleEnded(username: string, { worker, id }: UserAllocation): void {
    const known = this.#byUsername.get(username);
    if (known?.worker === worker && known.id === id) this.#byUsername.delete(username);
  }
}
