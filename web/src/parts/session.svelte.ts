/** Who this browser is, as the server knows it by the cookie; `undefined` until it was asked. */
import * as api from "../protocol/api";
import type { User } from "../protocol/api";

class Session {
  user = $state.raw<User | null | undefined>(undefined);

  async ask(): Promise<void> {
    this.user = await api.whoAmI();
  }

  /** Take a seat in this house: a new session, or a new name for the one there is. */
  async beCalled(name: string, password?: string): Promise<User> {
    const wanted = name.trim();
    if (!this.user) this.user = await api.sitDownAs(wanted, password);
    else if (this.user.name !== wanted) this.user = await api.rename(wanted);
    return this.user;
  }

  async recover(code: string): Promise<void> {
    this.user = await api.recover(code.trim());
  }

  async signOut(): Promise<void> {
    await api.signOut();
    this.user = null;
  }
}

export const session = new Session();
